# Skerry: make run, make test. The rest is for those who change it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# -trimpath makes builds the same in any folder.
export GOFLAGS := -trimpath -buildvcs=false
export CGO_ENABLED ?= 0

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COUNTS   := bin/counts
MODELS   ?= $(SKERRY_MODELS)
FUZZTIME ?= 20s
UNIT     := ./cmd/... ./internal/... ./tools/... ./test/identity/... ./test/sim/... ./test/wire/...

.PHONY: help run build needs-run needs-test check static unit e2e test bench gen fuzz unified clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

run: needs-run build ## install what is needed, build, and start the cloud
	@bin/skerry up

build: ## build bin/skerry
	@mkdir -p bin
	go build -ldflags '-s -w -X main.version=$(VERSION)' -o bin/skerry ./cmd/skerry

needs-run: ## install what functions use: Python, boto3, Pillow, mke2fs
	@tools/needs run

needs-test: ## install what the tests use besides: the AWS CLI, Node.js, busybox, skopeo, a C compiler
	@tools/needs test

check: static unit ## build, vet, lint, layers, race tests

static: ## everything that reads the code without running it
	go build ./...
	@test -z "$$(gofmt -l cmd internal test tools examples 2>/dev/null)" || { gofmt -l cmd internal test tools examples; echo 'run gofmt -w on these'; exit 1; }
	go vet ./...
	go run ./tools/vet
	go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 $$(go list ./... | grep -v /internal/api/)

# A program with the race detector waits a second before it ends, for reports of
# what still runs; the engine's tests start and end hundreds.
unit: export GORACE = atexit_sleep_ms=20
unit: ## the tests of every package, with the race detector
	@mkdir -p bin
	go build -o bin/tally ./tools/tally
	CGO_ENABLED=1 bin/tally -into $(COUNTS) go test -race $(UNIT)

e2e: build ## real clients against the built binary
	@mkdir -p bin
	go build -o bin/tally ./tools/tally
	PATH="$(CURDIR)/bin/clients:$$PATH" bin/tally -into $(COUNTS) go test -timeout 20m ./test/e2e/...

test: needs-test ## install what the tests need and run all of them
	@mkdir -p bin && rm -f $(COUNTS)
	@failed=0; $(MAKE) --no-print-directory check || failed=1; $(MAKE) --no-print-directory e2e || failed=1; \
	 bin/tally -sum $(COUNTS) && exit $$failed

bench: build ## the figures of docs/performance.md
	go run ./test/bench -binary bin/skerry

gen: ## make internal/api again from the models (MODELS=folder, or SKERRY_MODELS)
	@test -n "$(MODELS)" || { echo 'make gen MODELS=folder-of-service-models (tools/apigen/README.md says where they come from)'; exit 1; }
	go run ./tools/apigen -models $(MODELS)

fuzz: ## run every fuzz target for FUZZTIME
	@set -e; for p in $$(grep -rl --include=*_test.go '^func Fuzz' internal test | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -rhoE '^func Fuzz[A-Za-z0-9_]+' $$p/*_test.go | sed 's/^func //'); do \
	    echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) ./$$p; done; done

unified: ## run the engine's tests of limits on a kernel with control groups version 2 alone, in an emulated machine (root, apt)
	tools/unified

clean: ## remove what was built
	rm -rf bin
