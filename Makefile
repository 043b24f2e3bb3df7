# Longshore's build. `make up` and `make test` are all that a newcomer needs.

RUNNER  := internal/runtime/native/embedded/longshore-runner
SAMPLE  := internal/image/sample/embedded/sample
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo dev)
GO      ?= go
DATA    ?= /var/lib/longshore
UPFLAGS ?=

# What the runner (cgo, libseccomp, static) and the tests (AWS's CLI) need on Debian.
BUILD_PACKAGES := gcc libc6-dev libseccomp-dev
TEST_PACKAGES  := awscli curl

# Packages whose tests run under the race detector: everything that has
# goroutines of its own and starts no containers. All others run without it, those
# with real containers, images and networks where root runs them. The agent's run on
# one CPU: two timers that are due in one synctest bubble at the same moment can
# crash the race detector's runtime (go1.26), and its tests set very many.
RACE  := acs agent atomicfile bulk control edge events logdriver nodestate placement reconcile seal service store wire
PLAIN  = $(shell $(GO) list ./... | grep -vE '/internal/($(subst $() ,|,$(RACE)))(/|$$)')

# FOR is how long `make sim` takes.
FOR ?= 1m

.PHONY: up build runner sample deps test-deps test check soak bench sim clean help

help:
	@echo "make up     build, and run a server and a node here, with a sample service"
	@echo "make build  build bin/longshore"
	@echo "make test   run all tests      make check  format, vet, lint, house rules"
	@echo "make soak   the long runs      make bench  the benchmark table"
	@echo "make sim    the control plane in virtual time, with fresh seeds (FOR=10m: for longer)"

up: build
	@bin/longshore up --data $(DATA) $(UPFLAGS)

# deps installs what is missing; where nothing is, it asks nothing of the network.
deps:
	@missing=""; for p in $(BUILD_PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	 if [ -n "$$missing" ]; then echo "installing$$missing"; \
	   $(call as_root,apt-get update -qq) && $(call as_root,env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing) >/dev/null; fi

test-deps: deps
	@missing=""; for p in $(TEST_PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	 if [ -n "$$missing" ]; then echo "installing$$missing"; \
	   $(call as_root,apt-get update -qq) && $(call as_root,env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing) >/dev/null; fi

as_root = if [ "$$(id -u)" = 0 ]; then $(1); else sudo $(1); fi

runner: deps
	@echo "building the runner"
	@CGO_ENABLED=1 $(GO) build -trimpath -tags 'seccomp netgo osusergo' -ldflags '-extldflags "-static" -s -w' -o $(RUNNER) ./cmd/longshore-runner

sample:
	@echo "building the sample"
	@CGO_ENABLED=0 $(GO) build -tags nethttpomithttp2 -trimpath -ldflags '-s -w' -o $(SAMPLE) ./cmd/longshore-sample

build: runner sample
	@echo "building longshore (the first time takes a few minutes)"
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/longshore ./cmd/longshore

test: test-deps build
	$(GO) test -race -timeout 10m $(patsubst %,./internal/%/...,$(filter-out agent,$(RACE)))
	$(GO) test -race -cpu 1 -timeout 10m ./internal/agent/...
	$(GO) test -timeout 20m $(PLAIN)

check:
	@unformatted=$$(gofmt -l cmd internal test bench sim); if [ -n "$$unformatted" ]; then echo "not formatted: $$unformatted"; exit 1; fi
	CGO_ENABLED=0 $(GO) vet ./...
	CGO_ENABLED=0 $(GO) tool staticcheck ./...
	$(GO) test -count=1 ./internal/repotest/...

soak: test-deps build
	LONGSHORE_SOAK=1 $(GO) test -count=1 -timeout 3h ./internal/agent/ ./internal/policy/ ./internal/store/... ./internal/runtime/... ./test/...

bench: test-deps build
	@$(GO) run ./bench

sim:
	@CGO_ENABLED=0 $(GO) run ./sim -for $(FOR)

clean:
	rm -rf bin $(RUNNER) $(SAMPLE)
