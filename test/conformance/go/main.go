// What go-spiffe makes of a Workload API, as lines of JSON for the test that runs this.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sort"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/status"
)

var output sync.Mutex

func say(line map[string]any) {
	output.Lock()
	defer output.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		os.Exit(1)
	}
}

func codeOf(err error) string {
	for ; err != nil; err = errors.Unwrap(err) {
		if s, ok := status.FromError(err); ok {
			return s.Code().String()
		}
	}
	return "OK"
}

type watcher struct{}

func (watcher) OnX509ContextUpdate(c *workloadapi.X509Context) {
	svids := []map[string]any{}
	for _, svid := range c.SVIDs {
		svids = append(svids, map[string]any{
			"id": svid.ID.String(), "hint": svid.Hint, "chain": len(svid.Certificates),
			"serial": fmt.Sprintf("%x", svid.Certificates[0].SerialNumber),
		})
	}
	say(map[string]any{"event": "x509", "svids": svids, "bundles": x509Domains(c.Bundles)})
}
func (watcher) OnX509ContextWatchError(err error) {
	say(map[string]any{"event": "x509 error", "code": codeOf(err)})
}
func (watcher) OnX509BundlesUpdate(set *x509bundle.Set) {
	say(map[string]any{"event": "x509 bundles", "bundles": x509Domains(set)})
}
func (watcher) OnX509BundlesWatchError(err error) {
	say(map[string]any{"event": "x509 bundles error", "code": codeOf(err)})
}
func (watcher) OnJWTBundlesUpdate(set *jwtbundle.Set) {
	keys := map[string][]string{}
	for _, bundle := range set.Bundles() {
		ids := []string{}
		for id := range bundle.JWTAuthorities() {
			ids = append(ids, id)
		}
		sort.Strings(ids)
		keys[bundle.TrustDomain().IDString()] = ids
	}
	say(map[string]any{"event": "jwt bundles", "keys": keys})
}
func (watcher) OnJWTBundlesWatchError(err error) {
	say(map[string]any{"event": "jwt bundles error", "code": codeOf(err)})
}

func x509Domains(set *x509bundle.Set) map[string]int {
	domains := map[string]int{}
	for _, bundle := range set.Bundles() {
		domains[bundle.TrustDomain().IDString()] = len(bundle.X509Authorities())
	}
	return domains
}

// Until the test ends our stdin.
func watch(ctx context.Context, client *workloadapi.Client) error {
	go client.WatchX509Context(ctx, watcher{})
	go client.WatchX509Bundles(ctx, watcher{})
	go client.WatchJWTBundles(ctx, watcher{})
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func jwt(ctx context.Context, client *workloadapi.Client, audience string, subject string) error {
	source, err := workloadapi.NewJWTSource(ctx, workloadapi.WithClient(client))
	if err != nil {
		return err
	}
	defer source.Close()
	all, err := source.FetchJWTSVIDs(ctx, jwtsvid.Params{Audience: audience, ExtraAudiences: []string{"extra"}})
	if err != nil {
		return err
	}
	one, err := source.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience, Subject: spiffeid.RequireFromString(subject)})
	if err != nil {
		return err
	}
	token := one.Marshal()
	local, err := jwtsvid.ParseAndValidate(token, source, []string{audience})
	if err != nil {
		return err
	}
	remote, err := client.ValidateJWTSVID(ctx, token, audience)
	if err != nil {
		return err
	}
	_, otherLocal := jwtsvid.ParseAndValidate(token, source, []string{"another"})
	_, otherRemote := client.ValidateJWTSVID(ctx, token, "another")
	_, stranger := source.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience, Subject: spiffeid.RequireFromString(subject + "-other")})
	ids := []string{}
	for _, svid := range all {
		ids = append(ids, svid.ID.String()+" "+svid.Hint)
	}
	say(map[string]any{
		"all": ids, "extra": all[0].Audience, "one": one.ID.String(), "audience": one.Audience,
		"local": local.ID.String(), "remote": remote.ID.String(), "claims": remote.Claims, "expires": one.Expiry.Unix(),
		"other audience": []any{otherLocal != nil, codeOf(otherRemote)}, "another's": codeOf(stranger),
	})
	return nil
}

func wit(ctx context.Context, client *workloadapi.Client) error {
	_, svid := client.FetchWITSVID(ctx, "")
	_, bundles := client.FetchWITBundles(ctx)
	say(map[string]any{"svid": codeOf(svid), "bundles": codeOf(bundles)})
	return nil
}

// New connections between two sources, one after the other, until our stdin ends.
func connections(ctx context.Context, serverSocket, clientSocket string) error {
	server, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr(serverSocket)))
	if err != nil {
		return err
	}
	defer server.Close()
	client, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr(clientSocket)))
	if err != nil {
		return err
	}
	defer client.Close()
	serverSVID, err := server.GetX509SVID()
	if err != nil {
		return err
	}
	clientSVID, err := client.GetX509SVID()
	if err != nil {
		return err
	}
	config := tlsconfig.MTLSServerConfig(server, server, tlsconfig.AuthorizeID(clientSVID.ID))
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		return err
	}
	defer listener.Close()
	go serve(listener)
	address := listener.Addr().String()

	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	serials := [2]map[string]bool{{}, {}}
	count, failures, lastFailure := 0, 0, ""
	good := tlsconfig.MTLSClientConfig(client, client, tlsconfig.AuthorizeID(serverSVID.ID))
	for running := true; running; {
		count++
		seen, err := connect(address, good)
		if err != nil {
			failures++
			lastFailure = err.Error()
		}
		news := false
		for i, serial := range seen {
			news = news || !serials[i][serial]
			serials[i][serial] = true
		}
		if news || count%25 == 0 {
			say(map[string]any{"count": count, "server": len(serials[0]), "client": len(serials[1])})
		}
		select {
		case <-ended:
			running = false
		case <-time.After(5 * time.Millisecond):
		}
	}
	_, refused := connect(address, tlsconfig.MTLSClientConfig(client, client, tlsconfig.AuthorizeID(clientSVID.ID)))
	say(map[string]any{
		"connections": count, "failures": failures, "last failure": lastFailure, "refused": refused != nil,
		"server": len(serials[0]), "client": len(serials[1]),
	})
	return nil
}

// One connection to a server of somebody else's making.
func dial(ctx context.Context, client *workloadapi.Client, address, id string) error {
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClient(client))
	if err != nil {
		return err
	}
	defer source.Close()
	seen, err := connect(address, tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(spiffeid.RequireFromString(id))))
	if err != nil {
		say(map[string]any{"refused": err.Error()})
		return nil
	}
	say(map[string]any{"serial": seen[0], "said": seen[1]})
	return nil
}

// A server for clients of somebody else's making, until our stdin ends.
func listen(ctx context.Context, client *workloadapi.Client, id string) error {
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClient(client))
	if err != nil {
		return err
	}
	defer source.Close()
	config := tlsconfig.MTLSServerConfig(source, source, tlsconfig.AuthorizeID(spiffeid.RequireFromString(id)))
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		return err
	}
	defer listener.Close()
	go serve(listener)
	say(map[string]any{"port": listener.Addr().(*net.TCPAddr).Port})
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// Answers each client with the serial number of the certificate that it showed.
func serve(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			secure := conn.(*tls.Conn)
			if secure.Handshake() == nil {
				fmt.Fprintf(secure, "%x", secure.ConnectionState().PeerCertificates[0].SerialNumber)
			}
		}()
	}
}

// The serial numbers that server and client showed.
func connect(address string, config *tls.Config) ([]string, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", address, config)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	said, err := io.ReadAll(conn)
	if err != nil {
		return nil, err
	}
	if len(said) == 0 {
		return nil, errors.New("the server said nothing")
	}
	return []string{fmt.Sprintf("%x", conn.ConnectionState().PeerCertificates[0].SerialNumber), string(said)}, nil
}

func run(ctx context.Context, args []string) error {
	if args[0] == "connections" {
		return connections(ctx, args[1], args[2])
	}
	client, err := workloadapi.New(ctx, workloadapi.WithAddr(args[1]))
	if err != nil {
		return err
	}
	defer client.Close()
	switch args[0] {
	case "watch":
		return watch(ctx, client)
	case "jwt":
		return jwt(ctx, client, args[2], args[3])
	case "wit":
		return wit(ctx, client)
	case "dial":
		return dial(ctx, client, args[2], args[3])
	case "listen":
		return listen(ctx, client, args[2])
	}
	return fmt.Errorf("no command %q", args[0])
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
