# The commands of Mastiff. Each brings what it lacks (scripts/setup) and does one
# thing; the work is in scripts/. Variables given to make, as in
# `make run DISK=some.img`, reach the scripts through the environment.

BOARD ?= qemu-virt
# What scripts/qemu and scripts/test read.
variables := BOARD VIA QEMU SMP MEM DISK DISK_WRITE DTB OVERLAYS BOOTARGS RUN \
	MACHINE CPU DEVICES QEMU_ARGS TIMEOUT KERNEL LAB

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "Variables of run and test: $(wordlist 1,11,$(variables))"
	@echo "$(wordlist 12,99,$(variables)); scripts/qemu --help and docs/lab.md explain them."
	@echo
	@echo "[1] if make can load objects and there is a cc; else 2 stands for every failure,"
	@echo "and scripts/qemu is what ends with the firmware's status."

setup: ## bring everything that the other commands need
	@scripts/setup

setup-qemu-new: ## bring a newer QEMU beside the system's, for QEMU=
	@scripts/setup qemu-new

run: ## build, boot on QEMU, do the main job; ends with the firmware's status [1]
run: .boot
	$(eval boot_status := $(shell cat $(noted) 2>/dev/null; rm -f $(noted)))
	$(if $(filter-out 0,$(boot_status)),$(exit $(boot_status)))
	@exit $(boot_status)

test: ## host tests, then boot tests on QEMU; LAB=boards/NAME/lab.yaml: in a lab
	@scripts/test

test-all: ## the same, and what takes long: the matrix of machines, releases
	@scripts/test --all

bench: ## instructions of DMA, I/O and boot: a table, and target/bench.json
	@scripts/setup rust qemu && scripts/make-image --via '' qemu-virt && scripts/bench

loom: ## every interleaving of what several CPUs do at once, by loom
	@scripts/loom

check: ## format, lints, docs, layering
	@scripts/setup rust lint
	@scripts/check

image: ## what a board is flashed with, in target/images/BOARD (BOARD=qemu-virt)
	@scripts/setup rust dtc disk
	@scripts/make-image '$(BOARD)'

dist: ## a release: images, symbols, bills of materials, checksums, in target/dist
	@scripts/setup rust dtc disk dist
	@scripts/dist

plan: ## what the probe engine would do with a device tree (DTB=file.dtb)
	$(if $(DTB),,$(error make plan needs DTB=file.dtb))
	@cargo run --release --quiet --package mastiff-host -- plan '$(DTB)'

clean: ## remove everything that was built or fetched
	rm -rf target

# A variable that nobody reads is a misspelt one: without `DISK` another disk would
# be booted. Those of cargo and rustc reach them through the environment.
given = $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
unknown = $(filter-out $(variables) CARGO_% RUST%,$(given))
ifneq ($(and $(filter run test test-all,$(MAKECMDGOALS)),$(unknown)),)
$(error no variable $(unknown); there are: $(variables))
endif

# make turns every failure into its own status 2. Where it can load `$(exit)`
# it ends with the status that .boot noted; else it ends with 2. The note is this
# make's own: the shell's parent is the make that runs it.
noted := target/boot-status.$(shell echo $$PPID)
.boot:
	@mkdir -p target
	@scripts/setup rust qemu dtc $(if $(filter u-boot edk2,$(VIA)),disk firmware) && \
		scripts/make-image --via '$(VIA)' '$(BOARD)' && scripts/qemu; \
		echo $$? > $(noted)
ifneq ($(and $(filter run,$(MAKECMDGOALS)),$(filter load,$(.FEATURES))),)
make_exit := target/make-exit/exit.so
$(shell test -e $(make_exit) || { mkdir -p $(dir $(make_exit)) && \
	cc -shared -fPIC -o $(make_exit) scripts/lib/make-exit.c; } 2>/dev/null)
-load $(make_exit)
endif

.DEFAULT_GOAL := help
.PHONY: help dist test-all setup setup-qemu-new plan run test bench loom check image clean .boot
