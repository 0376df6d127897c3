// A plugin for Signet: a CA whose key is in a folder, to start from. Replace ca.go.
package main

import (
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"example.org/signet-plugin/pluginv1"
)

const grace = 2 * time.Second

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 || len(os.Args) > 3 {
		fmt.Fprintln(os.Stderr, "usage: signet-plugin FOLDER [SOCKET]\n\nFOLDER keeps the key; SOCKET is where to listen, unless SIGNET_PLUGIN_SOCKET says.")
		os.Exit(2)
	}
	// Signet hands the path over; the argument is for a plugin that Signet doesn't start.
	socket := os.Getenv("SIGNET_PLUGIN_SOCKET")
	if len(os.Args) == 3 {
		socket = os.Args[2]
	}
	most, _ := strconv.Atoi(os.Getenv("MOST_PER_SECOND"))

	listener, err := net.Listen("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	stopping := make(chan struct{})
	server := grpc.NewServer()
	pluginv1.RegisterAuthorityServer(server, &service{folder: os.Args[1], mostPerSecond: most, stopping: stopping})

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		close(stopping)
		time.AfterFunc(grace, server.Stop)
		server.GracefulStop()
	}()
	log.Print("ready")
	if err := server.Serve(listener); err != nil {
		log.Fatal(err)
	}
}
