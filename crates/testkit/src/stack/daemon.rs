//! One process of ours or of a store: started in a process group of its own, written down in a pid file,
//! signalled, stopped within a bound, and never left behind.

use std::{
    ffi::OsString,
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{sys::signal::Signal, unistd::Pid};

use super::{
    proc,
    usage::{self, Memory},
};

/// How often a stopping process is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// What to start, and how it wants to be stopped.
#[derive(Clone, Debug)]
pub struct Spec {
    /// How the process is called in messages.
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub environment: Vec<(String, String)>,
    /// The working directory.
    pub directory: PathBuf,
    /// Standard output and error are appended here.
    pub log: PathBuf,
    pub pid_file: PathBuf,
    /// Asks the process to finish. Postgres means by SIGTERM "when all clients have gone", hence the choice.
    pub stop_signal: Signal,
    /// How long it may take to finish before it is killed.
    pub stop_bound: Duration,
}

impl Spec {
    /// A process whose log and pid file are `<name>.log` and `<name>.pid` in `directory`.
    pub fn new(name: &str, program: impl Into<PathBuf>, directory: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: directory.to_path_buf(),
            log: directory.join(format!("{name}.log")),
            pid_file: directory.join(format!("{name}.pid")),
            stop_signal: Signal::SIGTERM,
            stop_bound: Duration::from_secs(15),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn arguments<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }
}

/// What happens to the process when its [`Daemon`] is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenDropped {
    /// It is asked to finish and killed when it doesn't: for stores, whose data is kept.
    Stop,
    /// It is killed: for the processes of a test.
    Kill,
    /// It goes on: for `up --detach` and for a stack shared by test executables.
    Leave,
}

/// A process that was started, or found running by its pid file.
#[derive(Debug)]
pub struct Daemon {
    spec: Spec,
    id: proc::Id,
    /// Present when this very process started it, and has to reap it.
    child: Option<Child>,
    when_dropped: WhenDropped,
}

impl Daemon {
    /// Starts the process. What an earlier run left under the same pid file is stopped first.
    pub fn spawn(spec: &Spec, when_dropped: WhenDropped) -> Result<Self> {
        if let Some(mut left_behind) = Self::find(spec)? {
            left_behind.stop()?;
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(&spec.log)
            .with_context(|| format!("the log of {} at {}", spec.name, spec.log.display()))?;
        let child = Command::new(&spec.program)
            .args(&spec.arguments)
            .envs(spec.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&spec.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C at the terminal goes to the foreground group; whoever started us decides the order of ending.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {} ({})", spec.name, spec.program.display()))?;
        let id = proc::Id::of(child.id().cast_signed())
            .with_context(|| format!("{} ended as soon as it was started", spec.name))?;
        // The signal is written down too, for whoever stops the process later and knows no more of it.
        fs::write(&spec.pid_file, format!("{id} {}", spec.stop_signal))
            .with_context(|| format!("the pid file {}", spec.pid_file.display()))?;
        Ok(Self { spec: spec.clone(), id, child: Some(child), when_dropped })
    }

    /// Stops it and starts it again as it was; fine to call when it has ended.
    pub fn respawn(&mut self) -> Result<()> {
        self.stop()?;
        let mut ended = Self::spawn(&self.spec, self.when_dropped)?;
        std::mem::swap(self, &mut ended);
        // The pid file is the new one's.
        ended.when_dropped = WhenDropped::Leave;
        Ok(())
    }

    /// The process that the pid file tells of, when it still runs.
    pub fn find(spec: &Spec) -> Result<Option<Self>> {
        Self::from_pid_file(&spec.pid_file, Some(spec))
    }

    fn from_pid_file(file: &Path, spec: Option<&Spec>) -> Result<Option<Self>> {
        let Ok(text) = fs::read_to_string(file) else { return Ok(None) };
        let parse = || -> Result<(proc::Id, Signal)> {
            let (id, signal) = text.trim().rsplit_once(' ').context("expected pid, start time and signal")?;
            Ok((id.parse()?, signal.parse()?))
        };
        let (id, stop_signal) = parse().with_context(|| format!("the pid file {}", file.display()))?;
        if !id.is_running() {
            return Ok(None);
        }
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let folder = file.parent().unwrap_or(Path::new("/"));
        let spec = spec.cloned().unwrap_or_else(|| Spec { stop_signal, ..Spec::new(&name, "", folder) });
        Ok(Some(Self { spec, id, child: None, when_dropped: WhenDropped::Leave }))
    }

    /// Every process that a pid file somewhere below `folder` tells of and that still runs.
    pub fn find_all(folder: &Path) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.extension().is_some_and(|extension| extension == "pid") {
                    found.extend(Self::from_pid_file(&path, None)?);
                } else if entry.file_type()?.is_dir() && entry.file_name() != "data" {
                    folders.push(path);
                }
            }
        }
        Ok(found)
    }

    pub fn name(&self) -> &str {
        &self.spec.name
    }

    pub fn log(&self) -> &Path {
        &self.spec.log
    }

    pub fn pid(&self) -> i32 {
        self.id.pid()
    }

    /// The processor time that the process and all that descend from it have used until now.
    pub fn cpu(&self) -> Duration {
        usage::cpu(self.id.pid())
    }

    /// The memory of the process itself, without its children.
    pub fn memory(&self) -> Result<Memory> {
        usage::memory(self.id.pid())
    }

    /// Lets the peak of [`Daemon::memory`] begin anew.
    pub fn forget_peak(&self) -> Result<()> {
        usage::forget_peak(self.id.pid())
    }

    /// Whether it runs; a zombie doesn't.
    pub fn is_running(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => self.id.is_running(),
        }
    }

    /// An error with the end of the log when the process has ended.
    pub fn ensure_running(&mut self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let exit = self.exit_text();
        bail!("{} has ended{exit}; {}", self.name(), self.log_tail())
    }

    fn exit_text(&mut self) -> String {
        match self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
            Some(status) => format!(" ({status})"),
            None => String::new(),
        }
    }

    /// The last lines of the log, for an error message.
    pub fn log_tail(&self) -> String {
        const LINES: usize = 25;
        let text = fs::read(&self.spec.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LINES)..];
        format!("the end of {}:\n{}", self.spec.log.display(), tail.join("\n"))
    }

    /// Signals the process and all that descend from it: Postgres puts its children into groups of their own.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        ensure!(self.id.is_running(), "{} does not run", self.spec.name);
        for pid in proc::tree(self.id.pid()) {
            // A child that ended meanwhile is no error.
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), signal);
        }
        Ok(())
    }

    /// SIGSTOP: the process answers nothing but its connections stay, as with a machine that hangs.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill9(&mut self) -> Result<()> {
        if self.is_running() {
            self.signal(Signal::SIGKILL)?;
        }
        self.wait_for_end(Duration::from_secs(10))?;
        self.forget();
        Ok(())
    }

    /// Asks the process to finish, kills it when it hasn't within its bound. Fine to call when it has ended.
    pub fn stop(&mut self) -> Result<()> {
        if self.is_running() {
            // A paused process couldn't act on the request.
            self.resume()?;
            // The process alone, as its children are its own to end.
            let _ = nix::sys::signal::kill(Pid::from_raw(self.id.pid()), self.spec.stop_signal);
            if self.wait_for_end(self.spec.stop_bound).is_err() {
                return self.kill9();
            }
        }
        self.forget();
        Ok(())
    }

    /// Sends the stop signal and waits for the end without killing; gives the exit status when the process is
    /// our child.
    pub fn terminate(&mut self, bound: Duration) -> Result<Option<ExitStatus>> {
        self.ensure_running()?;
        nix::sys::signal::kill(Pid::from_raw(self.id.pid()), self.spec.stop_signal)?;
        self.wait_for_end(bound)?;
        let status = self.child.as_mut().map(Child::wait).transpose()?;
        self.forget();
        Ok(status)
    }

    /// Blocks until the process has ended, at most for `bound`.
    pub fn wait_for_end(&mut self, bound: Duration) -> Result<()> {
        let deadline = Instant::now() + bound;
        while self.is_running() {
            if Instant::now() >= deadline {
                bail!("{} still runs after {bound:?}; {}", self.name(), self.log_tail());
            }
            std::thread::sleep(INTERVAL);
        }
        Ok(())
    }

    fn forget(&self) {
        let _ = fs::remove_file(&self.spec.pid_file);
    }
}

/// Stops several processes at the same time; the first error is told when all have been tried.
pub fn stop_together<'daemon>(daemons: impl IntoIterator<Item = &'daemon mut Daemon>) -> Result<()> {
    std::thread::scope(|scope| {
        let stopping: Vec<_> = daemons.into_iter().map(|daemon| scope.spawn(|| daemon.stop())).collect();
        let mut outcome = Ok(());
        for thread in stopping {
            let stopped = thread.join().map_err(|_panic| anyhow::anyhow!("stopping a process panicked"));
            outcome = outcome.and(stopped.flatten());
        }
        outcome
    })
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = match self.when_dropped {
            WhenDropped::Stop => self.stop(),
            WhenDropped::Kill => self.kill9(),
            WhenDropped::Leave => Ok(()),
        };
    }
}
