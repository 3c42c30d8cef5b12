//! The one place where a process draws randomness; everywhere else random bytes are an argument.

/// Random bytes of cryptographic quality (ChaCha, seeded and reseeded by the operating system), per thread.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes);
    bytes
}

/// A number in `0.0..1.0`, for jitter and sampling.
pub fn fraction() -> f64 {
    rand::random()
}
