# The commands of Mastiff. Each brings what it lacks (scripts/setup) and does one
# thing; the work is in scripts/. Variables given to make, as in
# `make run DISK=some.img`, reach the scripts through the environment.

BOARD ?= qemu-virt

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "Variables of run and test: QEMU SMP MEM DISK DISK_WRITE DTB OVERLAYS BOOTARGS RUN"
	@echo "MACHINE CPU DEVICES QEMU_ARGS TIMEOUT; scripts/qemu --help explains them."

setup: ## bring everything that the other commands need
	@scripts/setup

run: ## build, boot on QEMU, do the main job; ends with the firmware's status
run: .boot
	$(if $(filter-out 0,$(boot_status)),$(exit $(boot_status)))
	@exit $(boot_status)

test: ## host tests, then boot tests on QEMU
	@scripts/test

check: ## format, lints, docs, layering
	@scripts/setup rust lint
	@scripts/check

image: ## what a board is flashed with, in target/images/BOARD (BOARD=qemu-virt)
	@scripts/setup rust
	@scripts/make-image $(BOARD)

clean: ## remove everything that was built or fetched
	rm -rf target

# make turns every failure into its own status 2. Where it can load `$(exit)`
# it ends with the status that .boot noted; else it ends with 2.
boot_status = $(shell cat target/boot-status)
.boot:
	@mkdir -p target
	@scripts/setup rust qemu dtc && scripts/make-image qemu-virt && scripts/qemu; \
		echo $$? > target/boot-status
ifneq ($(and $(filter run,$(MAKECMDGOALS)),$(filter load,$(.FEATURES))),)
make_exit := target/make-exit/exit.so
$(shell test -e $(make_exit) || { mkdir -p $(dir $(make_exit)) && \
	cc -shared -fPIC -o $(make_exit) scripts/lib/make-exit.c; } 2>/dev/null)
-load $(make_exit)
endif

.DEFAULT_GOAL := help
.PHONY: help setup run test check image clean .boot
