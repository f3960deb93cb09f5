# One line a target; what is longer lives in scripts/.
.PHONY: run test lint fmt types bench docs lock frontend test-labs help
.DEFAULT_GOAL := help

run: ## set up what is missing and serve everything in one process, until Ctrl-C
	@scripts/setup run && exec .venv/bin/python manage.py serve
test: ## set up what the tests need and run them all (one stage: scripts/test --help)
	@scripts/setup test && exec scripts/test
lint: ## every check that is not a test: Python, types, imports, templates, JavaScript, CSS, shell
	@scripts/setup test && exec scripts/lint
fmt: ## rewrite what can be rewritten: Python, templates, JavaScript
	@scripts/setup test && exec scripts/lint --fix
types: ## the type checks alone
	@scripts/setup test && exec scripts/lint types
bench: ## measure against raw libvirt
	@scripts/setup test && exec .venv/bin/python -m bench
docs: ## write the generated pages again
	@scripts/setup test && .venv/bin/python scripts/docs.py && exec .venv/bin/python manage.py openapi
lock: ## resolve pyproject.toml anew into requirements.lock and requirements-dev.lock
	@scripts/setup test && exec scripts/lock
frontend: ## bundle the third-party browser parts into static/dist
	@scripts/setup test && exec npm --prefix frontend run build
test-labs: ## the other hypervisors alone: real Xen, Docker and Podman, simulators and stand-ins
	@scripts/setup test && exec scripts/test labs
help: ## this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile
