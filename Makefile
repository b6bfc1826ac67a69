# duo: see README.md. Needs Go and make; nothing else.

.PHONY: all build test web-vendor clients demo demo-hosts examples bench crash load fuzz lint docs ci clean

FUZZTIME ?= 10s
ROUNDS ?= 40
LOAD ?= 60s

all: build

build:
	go build -trimpath -o bin/duo ./cmd/duo

test:
	go vet ./...
	go test -timeout 20m ./...

# The libraries of the page in one file, of the versions in .ci/web; needs npm. The build
# takes the file as it is.
web-vendor:
	sh .ci/web/vendor

# Claude Code, Codex, Gemini CLI and the MCP inspector themselves, installed into a folder
# of their own: see .ci/clients. Needs npm.
clients:
	sh .ci/clients

demo: build
	sh docs/examples/demo.sh

# Three hosts, two of which cannot reach each other.
demo-hosts: build
	sh docs/examples/demo-hosts.sh

# Programs that answer for agents: see docs/attend.md.
examples: build
	sh docs/examples/commit.sh
	sh docs/examples/debate.sh
	sh docs/examples/manager.sh

# Ratios to what this machine can do at best; see docs/performance.md.
bench: build
	go run ./cmd/duo-bench -duo bin/duo

# Kills daemons and clients at random and checks that nothing was lost.
crash: build
	DUO_CRASH_ROUNDS=$(ROUNDS) go test -count=1 -timeout 30m -run TestCrash -v ./daemon/daemontest

# Agents in live calls for a minute, beside clients that misbehave.
load:
	DUO_LOAD=$(LOAD) go test -count=1 -timeout 10m -run TestLoad -v ./daemon/daemontest

fuzz:
	sh .ci/fuzz $(FUZZTIME)

lint:
	sh .ci/lint

# docs/cli.md is written by the program.
docs:
	go test ./cmd/duo -run TestDocsCurrent -update

ci:
	bash .ci/run

clean:
	rm -rf bin
