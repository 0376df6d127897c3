package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

const rootLife = 3650 * 24 * time.Hour

// A CA is the part to replace: a root and its key in a folder, made at the first start. Yours will ask a CA that you
// have; what it must return is the same.
type CA struct {
	key  *ecdsa.PrivateKey
	root *x509.Certificate
}

// OpenCA reads the folder's CA, or makes one for the trust domain if there is none.
func OpenCA(folder, trustDomain string) (*CA, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	keyFile, rootFile := filepath.Join(folder, "key.pem"), filepath.Join(folder, "root.pem")
	if _, err := os.Stat(rootFile); errors.Is(err, fs.ErrNotExist) {
		if err := makeRoot(keyFile, rootFile, trustDomain); err != nil {
			return nil, err
		}
	}
	keyDER, err := readPEM(keyFile, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds no EC key", keyFile)
	}
	rootDER, err := readPEM(rootFile, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(rootDER)
	if err != nil {
		return nil, err
	}
	if len(root.URIs) != 1 || root.URIs[0].String() != "spiffe://"+trustDomain {
		return nil, fmt.Errorf("the CA in %s is for another trust domain than %s", folder, trustDomain)
	}
	return &CA{key: key, root: root}, nil
}

// Anchors are the self-signed certificates (DER) that leaves chain to.
func (ca *CA) Anchors() [][]byte { return [][]byte{ca.root.Raw} }

// Ends is when nothing that was signed now can be valid any more.
func (ca *CA) Ends() time.Time { return ca.root.NotAfter }

// Sign returns the leaf and its intermediates, of which this CA has none.
func (ca *CA) Sign(publicKey []byte, spiffeID string, notBefore, notAfter time.Time) ([][]byte, error) {
	key, err := x509.ParsePKIXPublicKey(publicKey)
	if err != nil {
		return nil, err
	}
	id, err := url.Parse(spiffeID)
	if err != nil {
		return nil, err
	}
	if notAfter.After(ca.root.NotAfter) {
		notAfter = ca.root.NotAfter
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	// No subject: the one name is the URI, and x509 marks it critical then (RFC 5280, section 4.1.2.6).
	leaf := &x509.Certificate{
		SerialNumber:          serial,
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{id},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca.root, key, ca.key)
	if err != nil {
		return nil, err
	}
	return [][]byte{der}, nil
}

func makeRoot(keyFile, rootFile, trustDomain string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	// A name of its own for each key, so that an old root and a new one are never confused.
	hash := sha256.Sum256(public)
	root := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: trustDomain + " root " + hex.EncodeToString(hash[:4])},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(rootLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: trustDomain}},
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(keyFile, "PRIVATE KEY", private); err != nil {
		return err
	}
	return writePEM(rootFile, "CERTIFICATE", der)
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

func readPEM(file, label string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != label {
		return nil, fmt.Errorf("%s holds no %s", file, label)
	}
	return block.Bytes, nil
}

func writePEM(file, label string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}), 0o600)
}
