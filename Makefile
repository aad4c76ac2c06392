# What a newcomer and CI type. On Debian, as root: the lab makes network namespaces, and packages are installed.

.PHONY: help deps demo test

help:
	@echo 'make demo   boot a BIOS and two UEFI machines through netbootd, in a private network (a few minutes)'
	@echo 'make test   everything that CI runs'
	@echo 'make deps   install the Debian packages that both need (both do it themselves)'

deps:
	@tests/lab/install-packages

demo: deps
	cargo build --release --workspace --bins
	@cargo run --release --quiet --package netbootd-lab -- demo

test: deps
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace
	@if cargo deny --version > /dev/null 2>&1; then cargo deny check; \
	else echo 'cargo deny is not installed: licences and advisories were not checked'; fi
