// istio-client drives Istio's own packages against a CA: `sign` asks once through the client of istio-agent and judges the
// answer as Istio judges its own certificates, `agent` is the part of istio-agent that serves SDS to its Envoy.
package main

import (
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"istio.io/istio/pkg/log"
	"istio.io/istio/pkg/security"
	"istio.io/istio/security/pkg/credentialfetcher/plugin"
	"istio.io/istio/security/pkg/nodeagent/cache"
	"istio.io/istio/security/pkg/nodeagent/caclient/providers/citadel"
	"istio.io/istio/security/pkg/nodeagent/sds"
	"istio.io/istio/security/pkg/pki/util"
)

type settings struct {
	address, roots, token, cert, key string
	trustDomain, namespace, account  string
	signer, cluster, outCert, outKey string
	ttl                              time.Duration
	grace                            float64
	rsaBits                          int
}

func main() {
	if len(os.Args) < 2 || (os.Args[1] != "sign" && os.Args[1] != "agent") {
		fmt.Fprintln(os.Stderr, "usage: istio-client sign|agent [flags]")
		os.Exit(2)
	}
	var s settings
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	flags.StringVar(&s.address, "address", "", "HOST:PORT of the CA (CA_ADDR)")
	flags.StringVar(&s.roots, "roots", "", "PEM file that the CA's serving certificate is verified by (CA_ROOT_CA)")
	flags.StringVar(&s.token, "token", "", "token file; none: no token is sent")
	flags.StringVar(&s.cert, "cert", "", "client certificate (PROV_CERT)")
	flags.StringVar(&s.key, "key", "", "its key")
	flags.StringVar(&s.trustDomain, "trust-domain", "cluster.local", "TRUST_DOMAIN")
	flags.StringVar(&s.namespace, "namespace", "", "namespace of the workload")
	flags.StringVar(&s.account, "account", "", "service account of the workload")
	flags.StringVar(&s.signer, "signer", "", "CertSigner")
	flags.StringVar(&s.cluster, "cluster", "Kubernetes", "ClusterID")
	flags.StringVar(&s.outCert, "out-cert", "", "where the chain goes")
	flags.StringVar(&s.outKey, "out-key", "", "where the key goes")
	flags.DurationVar(&s.ttl, "ttl", 24*time.Hour, "life asked for (SECRET_TTL)")
	flags.Float64Var(&s.grace, "grace", 0.5, "SECRET_GRACE_PERIOD_RATIO")
	flags.IntVar(&s.rsaBits, "rsa", 0, "RSA key of so many bits, instead of P-256")
	_ = flags.Parse(os.Args[2:])
	options := log.DefaultOptions()
	options.OutputPaths = []string{"stderr"}
	if err := log.Configure(options); err != nil {
		fail(err)
	}
	if os.Args[1] == "sign" {
		sign(s)
		return
	}
	agent(s)
}

func (s settings) options() *security.Options {
	o := &security.Options{
		CAEndpoint:                           s.address,
		CAProviderName:                       "Citadel",
		TrustDomain:                          s.trustDomain,
		WorkloadNamespace:                    s.namespace,
		ServiceAccount:                       s.account,
		ClusterID:                            s.cluster,
		CertSigner:                           s.signer,
		SecretTTL:                            s.ttl,
		SecretRotationGracePeriodRatio:       s.grace,
		SecretRotationGracePeriodRatioJitter: 0.01,
		Pkcs8Keys:                            true,
	}
	if s.rsaBits > 0 {
		o.WorkloadRSAKeySize = s.rsaBits
	} else {
		o.ECCSigAlg = string(util.EcdsaSigAlg)
	}
	if s.token != "" {
		o.CredFetcher = plugin.CreateTokenPlugin(s.token)
	}
	return o
}

func (s settings) client() *citadel.CitadelClient {
	client, err := citadel.NewCitadelClient(s.options(), &citadel.TLSOptions{RootCert: s.roots, Cert: s.cert, Key: s.key})
	if err != nil {
		fail(err)
	}
	return client
}

// answer is what `sign` prints.
type answer struct {
	Chain   []string `json:"chain"`
	Seconds float64  `json:"seconds"`
	// Refused is what the client says after all of its retries.
	Refused string `json:"refused,omitempty"`
	// Fault is what Istio finds wrong with a chain that it was given.
	Fault string `json:"fault,omitempty"`
}

func sign(s settings) {
	host := fmt.Sprintf("spiffe://%s/ns/%s/sa/%s", s.trustDomain, s.namespace, s.account)
	wish := util.CertOptions{Host: host, PKCS8Key: true}
	usage := x509.KeyUsageDigitalSignature
	if s.rsaBits > 0 {
		wish.RSAKeySize = s.rsaBits
		usage |= x509.KeyUsageKeyEncipherment
	} else {
		wish.ECSigAlg = util.EcdsaSigAlg
	}
	csr, key, err := util.GenCSR(wish)
	if err != nil {
		fail(err)
	}
	client := s.client()
	start := time.Now()
	chain, err := client.CSRSign(csr, int64(s.ttl.Seconds()))
	out := answer{Chain: chain, Seconds: time.Since(start).Seconds()}
	if err != nil {
		out.Refused = err.Error()
	} else {
		out.Fault = faultOf(chain, key, host, usage)
		keep(s, strings.Join(chain, ""), key)
	}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		fail(err)
	}
}

// faultOf judges as istio-agent takes a chain apart: the root bundle is the last element, all before it the chain.
func faultOf(chain []string, key []byte, host string, usage x509.KeyUsage) string {
	last := len(chain) - 1
	err := util.VerifyCertificate(key, []byte(strings.Join(chain[:last], "")), []byte(chain[last]), &util.VerifyFields{
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		KeyUsage:    usage,
		Host:        host,
	})
	if err != nil {
		return err.Error()
	}
	if _, err := util.FindRootCertFromCertificateChainBytes([]byte(strings.Join(chain, ""))); err != nil {
		return err.Error()
	}
	return ""
}

func keep(s settings, chain string, key []byte) {
	if s.outCert == "" {
		return
	}
	if err := os.WriteFile(s.outKey, key, 0o600); err != nil {
		fail(err)
	}
	if err := os.WriteFile(s.outCert, []byte(chain), 0o600); err != nil {
		fail(err)
	}
}

// agent wires cache and SDS server as pkg/istio-agent does; its socket is where Envoy expects istio-agent's.
func agent(s settings) {
	secrets, err := cache.NewSecretManagerClient(s.client(), s.options())
	if err != nil {
		fail(err)
	}
	server := sds.NewServer(s.options(), secrets, nil)
	secrets.RegisterSecretHandler(server.OnSecretUpdate)
	fmt.Println("ready " + security.GetIstioSDSServerSocketPath())
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	server.Stop()
	secrets.Close()
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
