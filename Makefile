# SPDX-License-Identifier: GPL-2.0-or-later
# Two commands do everything: `make run` boots, tests and reports; `make test` is what CI runs.
#   make run ARGS="--duration 60 --seed 7"     any option of `evtchn-harness run`
#   make setup                                 only the installing

HOSTS := --host qemu-x86_64 --host qemu-arm64
VENV  := .venv
BIN   := $(VENV)/bin
# Python compiles a module when it is first imported; most of what is installed never is.
PIP   := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile
ARCH  := $(shell dpkg --print-architecture)
# Lines "package [arch]: programs" that are for this machine.
LISTS    := images/host/packages.txt
PACKAGES  = $(shell sed -n -e 's/^\([a-z0-9.+-]*\) \[$(ARCH)\]:.*/\1/p' -e 's/^\([a-z0-9.+-]*\):.*/\1/p' $(LISTS))
MISSING   = $(shell dpkg-query -W -f '$${Package} $${db:Status-Status}\n' $(PACKAGES) 2>/dev/null | \
	awk '$$2 == "installed" {have[$$1] = 1} END {split("$(PACKAGES)", want, " "); for (i in want) if (!have[want[i]]) print want[i]}' | sort)

# A test of these waits as often as it computes: one process more than there are CPUs.
SHARED := -n $(shell expr $$(nproc) + 1) --dist worksteal

.PHONY: run test quick short fast coverage real rack upstream hosts lint man setup packages clean

run: setup
	$(BIN)/evtchn-harness run $(HOSTS) $(ARGS)

test: packages lint fast real

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# What a developer runs all the time: a minute on two idle cores.
quick:
	@$(MAKE) --no-print-directory -j2 lint short

short: $(VENV)/.dev
	$(BIN)/pytest -q tests -m 'not real and not slow' $(SHARED)

fast: $(VENV)/.dev
	$(BIN)/pytest -q tests -m 'not real' $(SHARED)

# `fast`, with a table of the lines and branches that it ran: to be looked at, no gate.
coverage: $(VENV)/.dev
	$(BIN)/pytest -q tests -m 'not real' --cov --cov-report=term:skip-covered --cov-report=html

real: $(VENV)/.dev
	$(BIN)/pytest -v tests/real -m 'real and not rack and not upstream' --durations=30 --durations-min=20

# Every release of upstream from 4.12 on, and master, on both architectures: XEN_GIT=path/to/xen.git
upstream: packages $(VENV)/.dev
	XEN_GIT=$(XEN_GIT) $(BIN)/pytest -v tests/hypervisor -m upstream
	XEN_GIT=$(XEN_GIT) $(BIN)/pytest -v tests/hypervisor/test_upstream_series.py
	XEN_GIT=$(XEN_GIT) $(BIN)/pytest -v tests/real -m upstream

# Every sort of server and every fault: an hour and a half under TCG.
rack: LISTS += tests/real/rack/host-packages.txt
rack: packages $(VENV)/.dev
	$(PIP) --editable '.[dev,rack]'
	$(BIN)/pytest -v tests/real/rack tests/real/test_default_systems.py -m rack

# Where man looks for it if $(BIN) is in the PATH.
man: $(VENV)/.done
	mkdir -p $(VENV)/share/man/man1
	$(BIN)/python -m harness.cli.man >$(VENV)/share/man/man1/evtchn-harness.1

# `make run` and `make test` on other Debians, each from a bare root: some hours.
#   make hosts SUITES=trixie TARGETS=run
SUITES  := bookworm trixie testing
TARGETS := run test
hosts:
	@for suite in $(SUITES); do tests/real/hosts/host.sh $$suite $(TARGETS) || failed="$$failed $$suite"; done; \
	[ -z "$$failed" ] || { echo "not on:$$failed"; exit 1; }

setup: packages $(VENV)/.done

packages:
	@missing="$(strip $(MISSING))"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ]; then \
		echo "some packages are missing; run this once, then \`make\` again:"; \
		echo "  sudo apt-get install --no-install-recommends $$missing"; \
		exit 2; \
	fi; \
	apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing

# What running needs; what checking and testing need comes on top.
$(VENV)/.done: pyproject.toml
	python3 -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.done
	$(PIP) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) dist results .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache .coverage* htmlcov
	find . -name __pycache__ -prune -exec rm -rf {} +
