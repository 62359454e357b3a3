# Sutra Grid. Every target works from a clean clone with Go, make and gcc.
BIN  := bin
CMDS := gridmaster gridagent gridnode gridctl
SOAK ?= 1h
SEED ?=
REPLAYS ?= 20
OUT  ?= gridfault-out
DATA ?= dev-data
FUZZTIME ?= 2m
LOSSES ?= 1000
HOURS ?= 2
NODES ?= 300
MATRIX ?= 10000
VET  ?=
BENCH ?= yes
FUZZ ?= yes
ONLY ?=
LARGE ?=
LENGTH ?= 1h
HOT := ./fsm ./fsm/event ./fsm/shardmap ./internal/emit ./internal/raftgroup ./storagenode/engine ./storagenode/lock ./storagenode/vector ./client
RACE := ./fsm/... ./transport/... ./internal/raftgroup/... ./storagenode/lock/... ./storagenode/vector/... ./master/txn/... ./client/...

.PHONY: all build run test test-build race check fuzz e2e e2e-large sim recall fault-kinds faults faults-build gridfault-replay faults-replay faults-night faults-soak bench bench-quick growth soak bench-build bench-test bench-lint bench-micro bench-check bench-baseline clean

all: build

build: ## the programs, into bin/
	go build -o $(BIN)/ $(addprefix ./cmd/,$(CMDS))

run: build ## a whole grid on this machine; Ctrl-C stops it and keeps its data
	@exec $(BIN)/gridctl dev --data $(DATA)

test: ## everything a developer runs before a commit
	go test $(VET) -timeout 8m ./...
	go test $(VET) -tags faults ./internal/fault
	go test $(VET) -tags faults -run 'PowerLoss' ./internal/datadir ./internal/raftgroup ./cmd/gridfault/sim
	go test $(VET) -timeout 8m -race -short $(RACE)

test-build: ## what `make test` and `make faults` need beside `go test ./...`; it builds, and runs nothing
	go test -vet=off -tags faults -run '^$$' ./internal/fault ./internal/datadir ./internal/raftgroup ./cmd/gridfault/sim
	go test -vet=off -race -run '^$$' $(RACE)
	$(MAKE) --no-print-directory faults-build

race: ## all tests under the race detector
	CGO_ENABLED=1 go test -timeout 20m -race ./...

check: ## format, vet, staticcheck, go.mod, import law and style measures, 5 s of each fuzz target
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run gofmt -w on these files"; exit 1; }
	go vet ./...
	go vet -tags faults ./internal/fault ./internal/datadir ./internal/raftgroup ./cmd/gridfault/...
	go vet -tags replay ./cmd/gridfault/bubble
	go vet -race ./fsm/shardmap ./storagenode/vector
	go tool staticcheck ./...
	go mod tidy -diff
	go test ./internal/law
	@[ "$(FUZZ)" = no ] || $(MAKE) --no-print-directory fuzz FUZZTIME=5s
	@[ "$(BENCH)" = no ] || $(MAKE) --no-print-directory bench-lint # BENCH=no: without what etcd brings along

fuzz: ## 2 minutes of each fuzz target, or FUZZTIME
	@internal/law/fuzz.sh $(FUZZTIME) $(CURDIR)/$(BIN)/fuzz

e2e: ## kills under a full import, 500 kills of a shard's replicas, the bars for fail-over, and the protocol by python3-msgpack, 10 minutes of checked histories under kills, contention, with real processes; grids of 1, 4 and 16 shards compared; recall of 100,000 vectors
	GRID_E2E_BARS=1 GRID_HISTORIES=10m GRID_CONTENTION=60s GRID_E2E_FILE=$(CURDIR)/testdata/wordnet.ndjson.gz go test -count=1 -timeout 40m -v ./internal/e2e
	GRID_EQUALITY_FILE=$(CURDIR)/testdata/wordnet.ndjson.gz go test -count=1 -timeout 60m -v -run 'TestGridsAnswerAlike$$' ./internal/sim
	GRID_RECALL=100000 go test -count=1 -timeout 30m -v -run 'TestRecall$$' ./storagenode/nearest
	GRID_KILLS=500 go test -count=1 -timeout 20m -v -run 'TestReplicasSurviveKills$$' ./storagenode

e2e-large: ## 10 million concepts in one shard: memory, restart, a hub with a million edges; 6 minutes, 10 GB of disk
	GRID_E2E_LARGE=10000000 go test -count=1 -timeout 150m -v -run 'TestLargeShard$$' ./internal/e2e

sim: ## LOSSES leaders taken away under load, HOURS with little, NODES faults of storage nodes, MATRIX cases of transactions struck at a step (at most all), in virtual time; SEED=n begins with that seed
	GRID_SIM_LOSSES=$(LOSSES) GRID_SIM_HOURS=$(HOURS) GRID_SIM_NODES=$(NODES) GRID_SIM_MATRIX=$(MATRIX) GRID_SIM_SEED=$(SEED) go test -count=1 -timeout 90m -v -run 'TestLosses|TestHours|TestCrashMatrix|TestNodeFaults|Shards|TooEarly|DisksThatForget|TestCrashesOfAReplacement|TestEveryVoterIsReplacedUnderLoad|TestStaleClients' ./internal/sim

recall: ## vector search at full size, the index alone and as nodes use it: recall after build, change and restart, with filters; time and memory
	GRID_RECALL=100000 go test -count=1 -p 1 -timeout 30m -v -run 'TestRecall$$' ./storagenode/vector ./storagenode/nearest

fault-kinds: ## every kind of fault once, on machines of their own (namespaces, loop devices, nft: root), each with its proof; KINDS=disk.full,… some; 4 minutes
	GRID_FAULT_RIG=1 GRID_FAULT_KINDS=$(KINDS) go test -count=1 -timeout 20m -v -run 'TestAllKinds$$' ./cmd/gridfault/processes

faults-build: ## the programs with fault points and mutations, and gridfault, into bin/faults/
	go build -tags faults -o $(BIN)/faults/ $(addprefix ./cmd/,$(CMDS) gridfault)

gridfault-replay: ## bin/gridfault-replay: gridfault whose runs in virtual time are repeated to the last delivery; compiles everything anew, once
	go run ./cmd/gridfault/overlay $(BIN)/overlay
	go build -tags faults,replay -overlay $(BIN)/overlay/overlay.json -o $(BIN)/gridfault-replay ./cmd/gridfault

faults: faults-build ## under 5 minutes: six episodes of real processes, and beside them three mutations and fresh seeds in virtual time; SEED=n begins with that seed
	$(BIN)/faults/gridfault run --profile fast --out $(OUT) $(addprefix --seed ,$(SEED))

faults-replay: gridfault-replay ## REPLAYS seeds over all workloads in virtual time, each twice: are the traces equal? 4 minutes for 20
	GRIDFAULT_REPLAY=$(REPLAYS) GRIDFAULT_REPLAY_BINARY=$(CURDIR)/$(BIN)/gridfault-replay go test -count=1 -timeout 60m -v -run 'TestReplay$$' ./cmd/gridfault

faults-night: faults-build ## 2,000 seeds, every workload under every family of faults, every mutation; hours
	$(BIN)/faults/gridfault run --profile night --out $(OUT) $(addprefix --seed ,$(SEED))

faults-soak: faults-build ## one grid of processes for SOAK, workloads and faults drawn anew every minute: what grows?
	$(BIN)/faults/gridfault run --profile soak --soak $(SOAK) --out $(OUT) $(addprefix --seed ,$(SEED))

bench: bench-build ## every row of docs/performance.md beside etcd and PostgreSQL, into bench/RESULTS.md; over an hour of a quiet machine; ONLY=P1,P3 some
	$(BIN)/gridbench --bin $(BIN) $(addprefix --only ,$(ONLY))

bench-quick: bench-build ## P1 to P8, P12 and P14 in short runs; what it measures takes 3 minutes
	$(BIN)/gridbench --bin $(BIN) --quick $(addprefix --only ,$(ONLY))

growth: bench-build ## what grows, and how: masters, storage, shards, watchers, agents, as tables and plots in docs/performance.md; 20 minutes of a quiet machine; ONLY=masters,shards some; LARGE=yes 10 million concepts too, 30 GB of disk
	$(BIN)/gridbench growth --bin $(BIN) $(addprefix --only ,$(ONLY)) $(if $(LARGE),--large)

soak: bench-build ## a grid under steady load, 70 % of what it sustains, for LENGTH: does it grow? Into bench/SOAK.md; a quiet machine
	$(BIN)/gridbench soak --bin $(BIN) --length $(LENGTH)

bench-build: build
	go -C bench build -o $(CURDIR)/$(BIN)/gridbench .

bench-test: ## the tests of bench/, a module of its own: etcd and a PostgreSQL client are built
	go -C bench test ./...

bench-check: bench-micro ## the micro-benchmarks of hot paths against bench/baseline.txt: fails if one is slower by over 15 %; 4 minutes of a quiet machine
	@bench/check.sh $(BIN)/micro.txt

bench-baseline: bench-micro ## a new baseline, for a change that is meant to be slower, or another machine
	cp $(BIN)/micro.txt bench/baseline.txt

bench-micro:
	@mkdir -p $(BIN)
	go test -run '^$$' -bench . -benchtime 50ms -count 6 -p 1 -timeout 20m $(HOT) > $(BIN)/micro.txt || { cat $(BIN)/micro.txt; exit 1; }

bench-lint:
	go -C bench vet ./...
	cd bench && go tool staticcheck ./...
	go -C bench mod tidy -diff

clean:
	rm -rf $(BIN) $(DATA) $(OUT)
