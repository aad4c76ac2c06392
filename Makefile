# What a newcomer and CI type. On Debian, as root: the lab makes network namespaces, and packages are installed.

.PHONY: help deps demo test iso-test static documents deb rpm

help:
	@echo 'make demo   boot a BIOS and two UEFI machines through netbootd, in a private network (about 3 minutes the first time)'
	@echo 'make test   everything that CI runs'
	@echo 'make iso-test   boot live systems, an installer and tools from their images, on BIOS and UEFI (a quarter of an hour)'
	@echo 'make static, make deb, make rpm   one program that needs no library, and packages of it'
	@echo 'make package-test   install those packages into Debian 12 and 13, start them there, and boot a machine'
	@echo 'make bench  measure it beside other servers (less than 20 minutes); make measured also writes packaging/docs/measured.md'
	@echo 'make deps   install the Debian packages that the tests need (both commands install what they need themselves)'

deps:
	@tests/lab/install-packages

demo:
	@tests/lab/demo

test: deps
	tests/run

# The images are made of Debian's packages once, and kept in target/lab.
iso-test: deps
	cargo test --test boot images:: -- --include-ignored

# Firmware with Secure Boot on, to what it refuses and what it boots: about five minutes.
.PHONY: secure-boot-test
secure-boot-test: deps
	cargo test --test boot secure_boot:: -- --include-ignored

# A program that needs no library of its host, the same to the byte wherever it is built: no path of the building machine
# is in it. The C library is linked in too (its licence, the LGPL, asks that it can be replaced: the sources are all here).
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
STATIC := target/$(HOST)/release
CARGO_HOME ?= $(HOME)/.cargo
# Functions of the same code are kept once, and addresses that the loader fills in are listed as a bitmap (glibc 2.36).
SMALL := -C link-arg=-Wl,--icf=all -C link-arg=-Wl,-z,pack-relative-relocs
REMAP := --remap-path-prefix=$(CARGO_HOME)=/cargo --remap-path-prefix=$(CURDIR)=/netbootd

static:
	RUSTFLAGS='-C target-feature=+crt-static $(SMALL) $(REMAP)' CFLAGS='-ffile-prefix-map=$(CARGO_HOME)=/cargo -ffile-prefix-map=$(CURDIR)=/netbootd' \
	    cargo build --release --locked --target $(HOST) --bin netbootd
	strip --strip-all $(STATIC)/netbootd
	@size=$$(stat -c %s $(STATIC)/netbootd); echo "$(STATIC)/netbootd: $$size bytes"; \
	if [ $$size -gt 17825792 ]; then echo 'more than 17 MiB'; exit 1; fi
	@if ldd $(STATIC)/netbootd > /dev/null 2>&1; then ldd $(STATIC)/netbootd | grep -q 'statically linked'; fi

documents:
	rm -rf target/documents
	cargo run --quiet --locked --example documents -- target/documents

# What makes packages, at versions that are known to.
TOOLS := target/tools
$(TOOLS)/bin/cargo-deb:
	cargo install --quiet --locked --root $(TOOLS) cargo-deb@3.8.0
$(TOOLS)/bin/cargo-generate-rpm:
	cargo install --quiet --locked --root $(TOOLS) cargo-generate-rpm@0.21.1

deb: static documents $(TOOLS)/bin/cargo-deb
	mkdir -p target/packages && rm -f target/packages/*.deb
	$(TOOLS)/bin/cargo-deb --no-build --no-strip --target $(HOST) --output target/packages/

rpm: static documents $(TOOLS)/bin/cargo-generate-rpm
	mkdir -p target/packages && rm -f target/packages/*.rpm
	gzip --best --no-name --keep --force target/documents/*.[15]
	$(TOOLS)/bin/cargo-generate-rpm --target $(HOST) --output target/packages/

# Machines boot by dnsmasq, ISC dhcpd and Kea with the lines of `netbootd dhcp-snippet`: nine boots, one after the other.
snippets-test: deps
	cargo test --test boot -- --ignored --test-threads 1 snippets::

# What a first boot looks like on a terminal, into target/lab/first-boot.txt; packaging/docs/watching.md shows it.
recording: deps
	cargo test --test boot -- --ignored first_boot::

# Apart from `make test`: a release is built for it, and two releases of Debian are fetched. A quarter of an hour.
.PHONY: package-test
package-test: deps deb rpm
	@missing=; for package in mmdebstrap systemd-container rpm rpmlint lintian mtools dosfstools fdisk; do \
	    dpkg-query --show --showformat='$${db:Status-Status}' $$package 2> /dev/null | grep -qx installed || missing="$$missing $$package"; \
	done; [ -z "$$missing" ] || apt-get install -qq -y --no-install-recommends $$missing > /dev/null
	cargo test --test package -- --ignored --test-threads=1

# The picture of the status page in the README, as the page's own test takes it.
.PHONY: screenshot
screenshot: deps
	@command -v convert > /dev/null || apt-get install -qq -y --no-install-recommends imagemagick > /dev/null
	cargo test --quiet --test page people_see_every_kind_of_machine
	convert target/tmp/pictures/crowd-light.png -crop 1280x930+0+0 +repage -resize 900x -colors 96 -strip PNG8:packaging/docs/status.png

# Apart from `make test`, since no test may depend on speed. Less than 20 minutes where a release is built.
.PHONY: bench
bench:
	tests/bench/run

.PHONY: measured
measured:
	tests/bench/to-page

# The same sources in another folder, built from nothing: is it the same program? As long as a release takes.
.PHONY: reproducible
reproducible: static
	@elsewhere=$$(mktemp -d /var/tmp/netbootd-elsewhere-XXXXXX) && trap 'rm -rf "$$elsewhere"' EXIT && \
	git archive HEAD | tar -x -C "$$elsewhere" && $(MAKE) --quiet -C "$$elsewhere" static && \
	sha256sum $(STATIC)/netbootd "$$elsewhere/$(STATIC)/netbootd" && cmp $(STATIC)/netbootd "$$elsewhere/$(STATIC)/netbootd"
