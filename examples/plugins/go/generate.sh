#!/bin/sh
# Makes pluginv1/ anew from proto/plugin.proto. Needs protoc and Go.
set -eu
cd "$(dirname "$0")"
GOBIN="$PWD/.tools" go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.9
GOBIN="$PWD/.tools" go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.5.1
PATH="$PWD/.tools:$PATH" protoc -I proto plugin.proto \
  --go_out=pluginv1 --go_opt=paths=source_relative --go_opt=Mplugin.proto=example.org/signet-plugin/pluginv1 \
  --go-grpc_out=pluginv1 --go-grpc_opt=paths=source_relative --go-grpc_opt=Mplugin.proto=example.org/signet-plugin/pluginv1
