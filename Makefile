# The front door. Everything is built by Meson; this only knows the way.
BUILD ?= build
SECONDS ?= 60
MINUTES ?= 30
STORIES ?= 100000

.PHONY: all demo test bench soak stories fuzz fuzz-coverage install clean help bootstrap

all: $(BUILD)/build.ninja ## Build everything into build/
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	tools/bootstrap build
	meson setup $(BUILD)

demo: ## Dial a public key across a dozen pairs of networks, in namespaces, and show how it went
	tools/bootstrap demo
	tools/demo

test: ## Install what the tests need and run all of them
	tools/bootstrap test
	tools/run-tests

bench: ## Measure against coturn, side by side (about ten minutes)
	tools/bootstrap bench
	bench/run.py

soak: all ## MINUTES (30) of flows while servers and programs are killed, upgraded and stopped
	tools/bootstrap test
	BUILD=$(abspath $(BUILD)) tests/lab/soak.sh $(MINUTES)

stories: ## STORIES (100000) random lives of a connection in virtual time: an hour on two cores
	tools/bootstrap test
	tools/stories $(STORIES)

fuzz: ## Run every fuzzer for SECONDS (60) each
	tools/bootstrap test
	tools/fuzz $(SECONDS)

fuzz-coverage: ## How much of the code what the fuzzers have found reaches
	tools/bootstrap test
	tools/fuzz-coverage

install: all ## Install programs, library, headers and manuals
	meson install -C $(BUILD)

bootstrap: ## Install all packages that building, testing and measuring need
	tools/bootstrap build test bench

clean: ## Remove what was built
	rm -rf build build-*

help: ## Show this
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20
