// istio-ca is Istio's own CA and its gRPC service (the packages that istiod runs), for tests of what stands before it.
//
// With -authority it serves a registration authority: whoever shows a client certificate of that SPIFFE ID has the names
// of its CSR certified. Istio's server knows only a caller's own names, so an authenticator of this file, the one thing
// here that istiod has not, takes them from the CSR.
//
// With -node it authenticates as istiod in a cluster does, by TokenReview, and lets a trusted node account have the
// certificates of the pods on its node. The API server is client-go's fake.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	securityapi "istio.io/api/security/v1alpha1"
	"istio.io/istio/pkg/config/mesh/meshwatcher"
	"istio.io/istio/pkg/kube"
	"istio.io/istio/pkg/kube/multicluster"
	istiolog "istio.io/istio/pkg/log"
	"istio.io/istio/pkg/security"
	"istio.io/istio/security/pkg/pki/ca"
	"istio.io/istio/security/pkg/pki/util"
	caserver "istio.io/istio/security/pkg/server/ca"
	"istio.io/istio/security/pkg/server/ca/authenticate"
	"istio.io/istio/security/pkg/server/ca/authenticate/kubeauth"
)

const (
	clusterID = "Kubernetes"
	nodeName  = "node-1"
	callerPod = "node-proxy"
	callerUID = "node-proxy-uid"
)

func main() {
	address := flag.String("address", "127.0.0.1:0", "where to listen")
	caFiles := flag.String("ca", "", "folder of ca-cert.pem, ca-key.pem, cert-chain.pem and root-cert.pem, as istiod's cacerts secret")
	cert := flag.String("cert", "", "the server's certificate")
	key := flag.String("key", "", "and its key")
	clientCA := flag.String("client-ca", "", "CA of client certificates")
	authority := flag.String("authority", "", "SPIFFE ID of the registration authority")
	node := flag.String("node", "", "namespace/account of the trusted node account; the environment's CA_TRUSTED_NODE_ACCOUNTS must name it, too")
	token := flag.String("token", "", "with -node: file of the one token that TokenReview takes, as that account's")
	pods := flag.String("pods", "", "with -node: namespace/account of the pods on its node, by commas")
	maxTTL := flag.Duration("max-ttl", 90*24*time.Hour, "longest life")
	flag.Parse()
	quiet()

	bundle, err := util.NewVerifiedKeyCertBundleFromFile(caPaths(*caFiles))
	must(err)
	istioCA, err := ca.NewIstioCA(&ca.IstioCAOptions{DefaultCertTTL: time.Hour, MaxCertTTL: *maxTTL, KeyCertBundle: bundle})
	must(err)

	options := []grpc.ServerOption{grpc.Creds(serverCredentials(*cert, *key, *clientCA))}
	var authenticators []security.Authenticator
	clusters := multicluster.NewFakeController()
	cluster := func() {}
	if *authority != "" {
		authenticators = append(authenticators, registrationAuthority{id: *authority})
		options = append(options, grpc.UnaryInterceptor(withCSR))
	}
	if *node != "" {
		authenticators = append(authenticators, &authenticate.ClientCertAuthenticator{})
		client, stop := fakeCluster(*node, *token, *pods), make(chan struct{})
		authenticators = append(authenticators,
			kubeauth.NewKubeJWTAuthenticator(meshwatcher.NewTestWatcher(nil), client.Kube(), clusterID, nil, nil))
		cluster = func() { clusters.Add(clusterID, client, stop); client.RunAndWait(stop) }
	}
	service, err := caserver.New(istioCA, *maxTTL, authenticators, clusters)
	must(err)
	cluster()

	server := grpc.NewServer(options...)
	service.Register(server)
	listener, err := net.Listen("tcp", *address)
	must(err)
	fmt.Printf("ready %s\n", listener.Addr())
	must(server.Serve(listener))
}

func caPaths(folder string) (cert, key string, chain []string, root, crl string) {
	in := func(name string) string { return filepath.Join(folder, name) }
	return in("ca-cert.pem"), in("ca-key.pem"), []string{in("cert-chain.pem")}, in("root-cert.pem"), ""
}

func serverCredentials(cert, key, clientCA string) credentials.TransportCredentials {
	pair, err := tls.LoadX509KeyPair(cert, key)
	must(err)
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if clientCA != "" {
		pemBytes, err := os.ReadFile(clientCA)
		must(err)
		config.ClientCAs = x509.NewCertPool()
		config.ClientCAs.AppendCertsFromPEM(pemBytes)
		config.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return credentials.NewTLS(config)
}

type csrKey struct{}

func withCSR(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if csr, ok := request.(*securityapi.IstioCertificateRequest); ok {
		ctx = context.WithValue(ctx, csrKey{}, csr.Csr)
	}
	return next(ctx, request)
}

type registrationAuthority struct{ id string }

func (registrationAuthority) AuthenticatorType() string { return "RegistrationAuthority" }

func (r registrationAuthority) Authenticate(auth security.AuthContext) (*security.Caller, error) {
	caller, err := (&authenticate.ClientCertAuthenticator{}).Authenticate(auth)
	if err != nil {
		return nil, err
	}
	if caller == nil || len(caller.Identities) != 1 || caller.Identities[0] != r.id {
		return nil, errors.New("not the registration authority")
	}
	text, _ := auth.GrpcContext.Value(csrKey{}).(string)
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("no CSR")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || len(csr.URIs) != 1 {
		return nil, errors.New("the CSR does not have exactly one URI name")
	}
	caller.Identities = []string{csr.URIs[0].String()}
	return caller, nil
}

func fakeCluster(node, tokenFile, pods string) kube.CLIClient {
	namespace, account := split(node)
	objects := []runtime.Object{pod(namespace, callerPod, account, callerUID)}
	for i, one := range strings.Split(pods, ",") {
		podNamespace, podAccount := split(one)
		objects = append(objects, pod(podNamespace, fmt.Sprintf("pod-%d", i), podAccount, fmt.Sprintf("uid-%d", i)))
	}
	client := kube.NewFakeClient(objects...)
	client.Kube().(*fake.Clientset).PrependReactor("create", "tokenreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		review := action.(clienttesting.CreateAction).GetObject().(*authv1.TokenReview).DeepCopy()
		good, err := os.ReadFile(tokenFile)
		if err != nil || review.Spec.Token != strings.TrimSpace(string(good)) {
			review.Status.Error = "not a token of this cluster"
			return true, review, nil
		}
		review.Status = authv1.TokenReviewStatus{Authenticated: true, Audiences: review.Spec.Audiences, User: authv1.UserInfo{
			Username: "system:serviceaccount:" + namespace + ":" + account,
			Groups:   []string{"system:serviceaccounts"},
			Extra: map[string]authv1.ExtraValue{
				"authentication.kubernetes.io/pod-name": {callerPod},
				"authentication.kubernetes.io/pod-uid":  {callerUID},
			},
		}}
		return true, review, nil
	})
	return client
}

func pod(namespace, name, account, uid string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(uid)},
		Spec:       corev1.PodSpec{NodeName: nodeName, ServiceAccountName: account},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

func split(account string) (namespace, name string) {
	namespace, name, _ = strings.Cut(account, "/")
	return namespace, name
}

func quiet() {
	for _, scope := range istiolog.Scopes() {
		scope.SetOutputLevel(istiolog.WarnLevel)
	}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
