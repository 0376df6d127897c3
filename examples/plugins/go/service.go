package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"example.org/signet-plugin/pluginv1"
)

const revision = 1

// service is signet.plugin.v1.Authority in front of a CA.
type service struct {
	// What isn't implemented here, SignIntermediate, answers UNIMPLEMENTED.
	pluginv1.UnimplementedAuthorityServer

	folder        string
	mostPerSecond int
	stopping      <-chan struct{}

	mu          sync.Mutex
	ca          *CA
	trustDomain string
	second      int64
	signed      int
}

func (s *service) Handshake(_ context.Context, request *pluginv1.HandshakeRequest) (*pluginv1.HandshakeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ca == nil || s.trustDomain != request.GetTrustDomain() {
		ca, err := OpenCA(s.folder, request.GetTrustDomain())
		if err != nil {
			return nil, status.Error(codes.FailedPrecondition, err.Error())
		}
		s.ca, s.trustDomain = ca, request.GetTrustDomain()
	}
	return &pluginv1.HandshakeResponse{
		Revision:      revision,
		PluginName:    "example",
		PluginVersion: "0.1.0",
		Capabilities:  &pluginv1.Capabilities{ExactLife: true},
	}, nil
}

func (s *service) Sign(_ context.Context, request *pluginv1.SignRequest) (*pluginv1.SignResponse, error) {
	ca, trustDomain, err := s.opened()
	if err != nil {
		return nil, err
	}
	if s.tooMany() {
		return nil, tooMany(s.mostPerSecond)
	}
	// Signet has decided that this workload may have this name. A CA with an opinion of its own gives it here.
	if !strings.HasPrefix(request.GetSpiffeId(), "spiffe://"+trustDomain+"/") {
		return nil, status.Errorf(codes.PermissionDenied, "%s is not in %s", request.GetSpiffeId(), trustDomain)
	}
	notBefore, notAfter := time.Unix(request.GetNotBefore(), 0), time.Unix(request.GetNotAfter(), 0)
	chain, err := ca.Sign(request.GetPublicKey(), request.GetSpiffeId(), notBefore, notAfter)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return &pluginv1.SignResponse{Chain: chain}, nil
}

func (s *service) WatchTrust(_ *pluginv1.WatchTrustRequest, stream grpc.ServerStreamingServer[pluginv1.Trust]) error {
	ca, _, err := s.opened()
	if err != nil {
		return err
	}
	// This CA never changes while it runs. Send again, all of it, when yours does.
	if err := stream.Send(&pluginv1.Trust{Anchors: ca.Anchors(), IssuersEnd: ca.Ends().Unix()}); err != nil {
		return err
	}
	select {
	case <-stream.Context().Done():
	case <-s.stopping:
	}
	return nil
}

func (s *service) Health(context.Context, *pluginv1.HealthRequest) (*pluginv1.HealthResponse, error) {
	ca, _, err := s.opened()
	if err != nil {
		return nil, err
	}
	return &pluginv1.HealthResponse{
		CanSign: time.Now().Before(ca.Ends()),
		Detail:  "the root ends at " + ca.Ends().UTC().Format(time.RFC3339),
	}, nil
}

func (s *service) opened() (*CA, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ca == nil {
		return nil, "", status.Error(codes.FailedPrecondition, "Handshake comes first")
	}
	return s.ca, s.trustDomain, nil
}

func (s *service) tooMany() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now().Unix(); now != s.second {
		s.second, s.signed = now, 0
	}
	s.signed++
	return s.mostPerSecond > 0 && s.signed > s.mostPerSecond
}

// tooMany is a failure with all that Signet reads: the code of its own, and when to come back.
func tooMany(most int) error {
	failure := status.New(codes.ResourceExhausted, fmt.Sprintf("more than %d certificates a second", most))
	detailed, err := failure.WithDetails(
		&errdetails.ErrorInfo{Reason: "AUTHORITY_THROTTLED", Domain: "signet.dev"},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)},
	)
	if err != nil {
		return failure.Err()
	}
	return detailed.Err()
}
