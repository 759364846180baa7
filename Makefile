.DEFAULT_GOAL := help
PY := .venv/bin/python
NODES ?= 3
SECONDS ?= 600
WORKERS ?= 2

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-9s %s\n", $$1, $$2 }'

setup: .venv/.installed ## create .venv and install everything into it

run: setup ## show three regions at work on this machine (NODES=1: a single broker)
	@$(PY) -m broker demo --nodes $(NODES)

test: setup .venv/.clients .venv/.mqttjs .venv/.ldap .venv/.sdk ## run all tests, two files at a time (WORKERS=2)
	$(PY) -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: setup ## check style and types
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

fuzz: setup ## look for input that breaks the decoder, the connection or the built-in rules, for 10 minutes (SECONDS=600)
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	$(PY) -m tests.fuzz --seconds $(SECONDS)

bench: setup .venv/.sdk ## measure against Mosquitto; writes docs/benchmarks.md
	@{ command -v mosquitto || test -x /usr/sbin/mosquitto; } >/dev/null || $(call debian,mosquitto)
	@test -f /usr/include/openssl/ssl.h || $(call debian,libssl-dev)
	$(PY) -m tests.bench

chaos: setup ## kill the broker a hundred times under load; writes docs/durability.md's table
	@{ command -v mosquitto || test -x /usr/sbin/mosquitto; } >/dev/null || $(call debian,mosquitto)
	$(PY) -m tests.chaos

faults: setup ## slow, cut and kill what lies between two nodes, and the nodes; writes docs/faults.md
	@{ command -v mosquitto || test -x /usr/sbin/mosquitto; } >/dev/null || $(call debian,mosquitto)
	@test "$$(id -u)" != 0 || { command -v nft && ls /usr/lib/*/faketime; } >/dev/null 2>&1 || \
		{ $(call debian,nftables iproute2 libfaketime); }
	$(PY) -m tests.faults

soak: setup ## ten minutes of sessions that come and go: memory and files must not grow (SECONDS=600)
	$(PY) -m tests.chaos.soak --seconds $(SECONDS)

scale: setup ## what meshes of up to 1,000 nodes cost; writes docs/scale.md's table
	$(PY) -m tests.scale

audit: setup ## ask the public database for known weaknesses of what is installed (needs the network)
	$(PY) -m pip install --quiet --disable-pip-version-check pip-audit
	@rm -f .venv/audit.txt
	@$(PY) -m pip_audit --skip-editable --output .venv/audit.txt; found=$$?; \
		test -f .venv/audit.txt || exit $$found; \
		cat .venv/audit.txt; \
		unknown=$$(grep -c "could not be audited" .venv/audit.txt); \
		test "$$unknown" = 0 || { echo "packages that could not be audited, so that nothing is known of them: $$unknown"; exit 1; }; \
		exit $$found

plugins: setup ## build the built-in rules from their sources
	$(PY) -m plugins.builtin.build

clean: ## remove what was made
	rm -rf .venv .geomq build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Debian packages are installed as root only; others are told what is missing.
debian = { [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1) >/dev/null; } || \
	{ echo "please install the Debian package $(1)"; exit 1; }

.venv/.installed: pyproject.toml
	@python3 -c 'import ensurepip' 2>/dev/null || $(call debian,python3-venv)
	python3 -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	@touch $@

.venv/.clients: | .venv/.installed
	@command -v mosquitto_pub >/dev/null || $(call debian,mosquitto-clients)
	@touch $@

# Without them the test of amqtt's LDAP plugin is skipped: python-ldap is compiled.
.venv/.ldap: | .venv/.installed
	@{ test "$$(id -u)" != 0 || { $(call debian,slapd libldap-dev libsasl2-dev gcc libc6-dev python3-dev) && \
		$(PY) -m pip install --quiet --disable-pip-version-check python-ldap; }; } || \
		echo "python-ldap could not be built: the test of the LDAP plugin is skipped"
	@touch $@

.venv/.mqttjs: tests/clients/mqttjs/package-lock.json | .venv/.installed
	@(cd tests/clients/mqttjs && PATH="$(CURDIR)/.venv/bin:$$PATH" npm ci --silent --no-audit --no-fund) || \
		echo "mqtt.js could not be installed: its rounds are skipped"
	@touch $@

# Compilers for the plugin SDK's examples; where one cannot be had, its tests are skipped.
.venv/.sdk: tests/plugins/sdk/package-lock.json | .venv/.installed
	@(cd tests/plugins/sdk && PATH="$(CURDIR)/.venv/bin:$$PATH" npm ci --silent --no-audit --no-fund) || \
		echo "AssemblyScript could not be installed: the tests of its SDK are skipped"
	@test "$$(id -u)" != 0 || test -d /usr/lib/rustlib/wasm32-unknown-unknown || \
		{ $(call debian,make rustc libstd-rust-dev-wasm32 lld); } || \
		echo "Rust could not be installed: the tests of its SDK are skipped"
	@touch $@

.PHONY: help setup run test lint fuzz bench chaos faults soak scale audit plugins clean
