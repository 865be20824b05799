PREFIX  ?= /usr/local
VERSION ?= $(shell git describe --tags --dirty 2>/dev/null)
COMMIT  ?= $(shell git rev-parse --short HEAD 2>/dev/null)
LDFLAGS  = -s -w $(if $(VERSION),-X main.version=$(VERSION)) $(if $(COMMIT),-X main.commit=$(COMMIT))

.PHONY: build test lint vm bench install clean

build:
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$(LDFLAGS)" ./cmd/minictr

test:
	go run ./tests/run

lint:
	go run ./tests/run $@

# make vm RUN=TestWall KERNEL=/boot/vmlinuz-6.1.0 SHELL_ON_FAILURE=1
vm:
	go run ./tests/run $(if $(RUN),--run '$(RUN)') $(if $(KERNEL),--kernel $(KERNEL)) $(if $(SHELL_ON_FAILURE),--shell) $@

bench:
	go run ./tests/bench

install: build
	install -D minictr $(DESTDIR)$(PREFIX)/bin/minictr

clean:
	rm -f minictr
