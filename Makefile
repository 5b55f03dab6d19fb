goreleaser = $(shell cat .ci/goreleaser)

# What .ci/run runs, by parts; `make ci` is all of it.
.PHONY: test race lint docs explore mutants torture calls bench install release ci

test: ## as the README has it
	go test ./...

race: ## the tests of every module with the race detector
	go test -race ./...
	go test -C etcdstore -race ./...
	go test -C pgstore -race ./...
	go test -C ownergrpc -race ./...
	go test -C sqlfence/sqltest -race ./...
	go test -C lab -race ./...
	go test -C bench -race ./...

lint:
	test -z "$$(gofmt -l .)"
	go vet ./...
	go vet -C etcdstore ./...
	go vet -C pgstore ./...
	go vet -C ownergrpc ./...
	go vet -C sqlfence/sqltest ./...
	go vet -C lab ./...
	go vet -C bench ./...

docs: ## the generated pages
	go generate ./...

explore: ## every order of system calls, up to a bound
	go test -run '^TestExplore$$' -v . -explore

mutants: ## that a library that is broken on purpose is found
	go test -run '^TestMutants$$' -v . -mutants
	go test -C etcdstore -run '^TestMutants$$' -v . -mutants
	go test -C sqlfence/sqltest -run '^TestMutants$$' -timeout 30m -v . -mutants
	go test -C pgstore -run '^TestMutants$$' -v . -mutants
	go test -C lab -run '^TestMutants$$' -v ./torture -mutants
	go test -C lab -run '^TestMutants$$' -v ./calls -mutants

for ?= 1m
torture: ## real processes and faults; make torture for=1h
	go run -C lab ./torture -for $(for)

calls: ## requests to owners while faults are injected; make calls for=10m
	go run -C lab ./calls -for $(for)

bench: ## each with its floor, in the same run
	go test -run '^$$' -bench . .

install: ## go get and go install, from outside
	bash .ci/install

release: ## archives and packages into dist/; publishes nothing
	go run $(goreleaser) release --snapshot --clean --skip=publish,docker

ci:
	bash .ci/run
