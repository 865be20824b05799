PREFIX  ?= /usr/local
VERSION ?= $(shell git describe --tags --dirty 2>/dev/null)
COMMIT  ?= $(shell git rev-parse --short HEAD 2>/dev/null)
LDFLAGS  = -s -w $(if $(VERSION),-X main.version=$(VERSION)) $(if $(COMMIT),-X main.commit=$(COMMIT))

.PHONY: build test lint vm bench install clean

build:
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$(LDFLAGS)" ./cmd/minictr

test:
	go run ./tests/run

lint vm:
	go run ./tests/run $@

bench:
	go run ./tests/bench

install: build
	install -D minictr $(DESTDIR)$(PREFIX)/bin/minictr

clean:
	rm -f minictr
