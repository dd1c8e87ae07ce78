# The operator's image: one static binary and nothing else.
#
#   docker buildx build --platform linux/amd64,linux/arm64 --tag REGISTRY/podpolicy:0.1.0 --push .
#
# Each platform is built on itself (natively or emulated), where Alpine's Rust makes static binaries by default. With SOURCE_DATE_EPOCH set, and
# `--output type=image,rewrite-timestamp=true`, the same sources give the same image. e2e/image.sh makes the same without Docker.
FROM rust:1.95.0-alpine AS build
# For the C and assembly of the crate ring.
RUN apk add --no-cache musl-dev
WORKDIR /source
COPY . .
ARG SOURCE_DATE_EPOCH=0
ENV CARGO_INCREMENTAL=0
RUN --mount=type=cache,id=podpolicy-registry,target=/usr/local/cargo/registry \
    cargo build --locked --release -p podpolicy && \
    install -m 0755 target/release/podpolicy /podpolicy

FROM scratch
LABEL org.opencontainers.image.title=podpolicy \
      org.opencontainers.image.version=0.1.0 \
      org.opencontainers.image.licenses=Apache-2.0
COPY --from=build /podpolicy /podpolicy
USER 65532:65532
WORKDIR /
ENTRYPOINT ["/podpolicy"]
