# Everything a fresh Debian machine needs is installed by `make setup`, which the other targets call.

PACKAGES = python3 python3-venv containerd crun iptables nftables conntrack containernetworking-plugins \
	busybox-static catatonit curl iproute2 util-linux procps passt ca-certificates
VENV = .venv
BIN = $(VENV)/bin
OLD_KUBECTL = $(VENV)/kubectl-of-debian/kubectl

.PHONY: setup demo tutorial tutorial-update test lint bench clean
.DEFAULT_GOAL := setup

setup: $(VENV)/.installed
	@missing=$$(for package in $(PACKAGES); do \
		dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'install ok installed' || echo $$package; \
	done); \
	if [ -n "$$missing" ]; then \
		echo "Installing:" $$missing; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

$(VENV)/.installed: requirements.lock pyproject.toml
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && python3 -c 'import ensurepip' 2>/dev/null || \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-venv >/dev/null; }
	@echo "Installing the Python packages of requirements.lock into $(VENV)"
	@python3 -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q src
	@touch $@

demo: setup
	@./examples/demo.sh

# Every command of docs/tutorial.md, in a cluster of its own; the second puts what was written into the page, and
# into the other pages that are run.
tutorial: setup
	@$(BIN)/python tests/tutorial/walk.py

tutorial-update: setup
	@for page in docs/tutorial.md docs/load-balancer.md; do $(BIN)/python tests/tutorial/walk.py --update $$page || exit 1; done

# dig, and programs linked with glibc and with musl, are clients of the cluster's DNS; arping, ndisc6, tcpdump
# and BIRD see what is announced. FRR announces by BGP, for those who have peers: nobody else has to have it.
test: PACKAGES += bind9-dnsutils gcc libc6-dev musl-tools iputils-arping ndisc6 tcpdump bird2 frr
test: setup $(OLD_KUBECTL)
	@$(BIN)/python -m pytest

# The oldest kubectl that has to work is the distribution's. It is unpacked, not installed.
$(OLD_KUBECTL):
	@folder=$$(mktemp -d) && chmod 755 $$folder && cd $$folder && \
	{ apt-get download -qq kubernetes-client >/dev/null 2>&1 || \
		{ apt-get update -qq && apt-get download -qq kubernetes-client >/dev/null; }; } && \
	dpkg -x kubernetes-client_*.deb . && install -D usr/bin/kubectl $(CURDIR)/$@ && rm -r $$folder

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: PACKAGES += iputils-arping bird2 frr
bench: setup
	@for file in bench/[a-z]*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean:
	@[ ! -x $(BIN)/buoy ] || $(BIN)/buoy down --all
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build src/*.egg-info
