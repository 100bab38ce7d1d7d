# `make demo` and `make test` are all that is needed; each installs what is missing where it may.

.PHONY: demo test bench build generate
.DEFAULT_GOAL := build

demo: ## everything on its own, at http://127.0.0.1:8080; flags in ARGS, e.g. make demo ARGS='-fresh'
	@scripts/need.sh go postgres
	@$(MAKE) --no-print-directory build
	@exec bin/patchbay demo $(ARGS)

test: ## every test there is; what CI runs
	@scripts/test.sh

bench: ## the figures of docs/benchmarks.md
	@scripts/need.sh go postgres
	go run ./bench $(ARGS)

build:
	go build -o bin/patchbay ./cmd/web

generate: ## pages from their templates, the schema of CONNECTORS_FILE from its keys
	go tool templ generate
	go generate ./internal/connectors
