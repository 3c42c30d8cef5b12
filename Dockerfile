# The four services in one image; the command says which one runs. Nothing in it is writable, and it runs as nobody in
# particular.
FROM rust:1.95-bookworm AS build
WORKDIR /ravenpost
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/ravenpost/target \
    cargo build --locked --release --workspace \
        --bin ravenpost-ingress --bin ravenpost-delivery-worker \
        --bin ravenpost-management-api --bin ravenpost-notifier \
    && mkdir /programs \
    && cp target/release/ravenpost-ingress target/release/ravenpost-delivery-worker \
        target/release/ravenpost-management-api target/release/ravenpost-notifier /programs/

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /programs/ /usr/local/bin/
USER 65532:65532
CMD ["ravenpost-management-api", "--help"]
