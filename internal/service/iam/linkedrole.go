package iam

import (
	"context"
	"errors"
	"fmt"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/base/ids"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// linked is a service that may have a service-linked role.
type linked struct {
	role, policy, description string
}

// linkedServices are those whose role's policy is in the catalogue.
func linkedServices() map[string]linked {
	const managed = "arn:aws:iam::aws:policy/aws-service-role/"
	return map[string]linked{
		"ecs.amazonaws.com":             {"AWSServiceRoleForECS", managed + "AmazonECSServiceRolePolicy", "Role to enable Amazon ECS to manage your cluster."},
		"batch.amazonaws.com":           {"AWSServiceRoleForBatch", managed + "BatchServiceRolePolicy", ""},
		"lambda.amazonaws.com":          {"AWSServiceRoleForLambda", managed + "AWSLambdaServiceRolePolicy", ""},
		"replication.ecr.amazonaws.com": {"AWSServiceRoleForECRReplication", managed + "ECRReplicationServiceRolePolicy", ""},
		"ecs.application-autoscaling.amazonaws.com": {
			"AWSServiceRoleForApplicationAutoScaling_ECSService", managed + "AWSApplicationAutoscalingECSServicePolicy", "",
		},
		"elasticloadbalancing.amazonaws.com": {
			"AWSServiceRoleForElasticLoadBalancing", managed + "AWSElasticLoadBalancingServiceRolePolicy", "Allows ELB to call AWS services on your behalf.",
		},
	}
}

// CreateServiceLinkedRole creates the role that a service acts with.
func (s *Service) CreateServiceLinkedRole(ctx context.Context, sc auth.Scope, in *api.CreateServiceLinkedRoleInput) (*api.CreateServiceLinkedRoleOutput, error) {
	service := wire.Value(in.AWSServiceName)
	l, ok := linkedServices()[service]
	if !ok || s.managed.policy(l.policy) == nil {
		return nil, invalidInput("Service role for %s is not available.", service)
	}
	if in.CustomSuffix != nil { // none of these services takes one
		return nil, invalidInput("Custom suffix is not allowed for %s", service)
	}
	r := &roleRow{
		entity: entity{
			Account: sc.Account, Name: l.role, Path: "/aws-service-role/" + service + "/", ID: ids.Unique("AROA", 21),
			Created: s.now(), Attached: []string{l.policy},
		},
		Description: l.description, MaxSession: defaultSession, Service: service,
		Trust: `{"Version":"2012-10-17","Statement":[{"Action":["sts:AssumeRole"],"Effect":"Allow","Principal":{"Service":["` + service + `"]}}]}`,
	}
	if in.Description != nil {
		r.Description = *in.Description
	}
	err := s.update(ctx, func(tx *store.Tx) error {
		return added(tx, roles, r, sc.Account, roleQuota,
			invalidInput("Service role name %s has been taken in this account, please try a different suffix.", l.role))
	})
	return &api.CreateServiceLinkedRoleOutput{Role: new(r.answer())}, err
}

// DeleteServiceLinkedRole deletes such a role and leaves a task to ask about.
// Nothing in Skerry that has one yet refuses it.
func (s *Service) DeleteServiceLinkedRole(ctx context.Context, sc auth.Scope, in *api.DeleteServiceLinkedRoleInput) (*api.DeleteServiceLinkedRoleOutput, error) {
	var out api.DeleteServiceLinkedRoleOutput
	err := s.update(ctx, func(tx *store.Tx) error {
		r, err := s.role(tx, sc.Account, wire.Value(in.RoleName))
		if err != nil {
			return err
		}
		if r.Service == "" {
			return noSuchRole(r.Name)
		}
		task := fmt.Sprintf("task%s%s/%s", r.Path, r.Name, ids.UUID())
		out.DeletionTaskId = wire.Ptr(task)
		if err := s.dropRole(tx, r); err != nil {
			return err
		}
		return deletions.Insert(tx, &deletionRow{Account: sc.Account, Task: task, Status: "SUCCEEDED", Created: s.now()})
	})
	return &out, err
}

// GetServiceLinkedRoleDeletionStatus tells how a deletion task went.
func (s *Service) GetServiceLinkedRoleDeletionStatus(ctx context.Context, sc auth.Scope, in *api.GetServiceLinkedRoleDeletionStatusInput) (*api.GetServiceLinkedRoleDeletionStatusOutput, error) {
	var out api.GetServiceLinkedRoleDeletionStatusOutput
	err := s.view(ctx, func(tx *store.Tx) error {
		r, err := deletions.Get(tx, store.K(sc.Account, wire.Value(in.DeletionTaskId)))
		if errors.Is(err, store.ErrNotFound) {
			return noSuchEntity("Deletion Task id %s cannot be found.", wire.Value(in.DeletionTaskId))
		}
		if err == nil {
			out.Status = wire.Ptr(r.Status)
		}
		return err
	})
	return &out, err
}
