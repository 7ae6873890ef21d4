package logs

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"skerry/internal/api/logs"
	"skerry/internal/auth"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// retentions are the days that a retention policy may say ("PutRetentionPolicy").
var retentions = []int32{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731,
	1096, 1827, 2192, 2557, 2922, 3288, 3653}

// CreateLogGroup makes a log group.
func (s *Service) CreateLogGroup(ctx context.Context, sc auth.Scope, in *logs.CreateLogGroupInput) (*logs.CreateLogGroupOutput, error) {
	name := wire.Value(in.LogGroupName)
	if strings.HasPrefix(name, "aws/") {
		return nil, invalid("Log groups starting with AWS/ are reserved for AWS.")
	}
	if in.KmsKeyId != nil {
		return nil, invalid("The specified KMS key does not exist or is not allowed to be used with LogGroup '" + name + "': there are no KMS keys here.")
	}
	class := logs.LogGroupClassStandard
	if in.LogGroupClass != nil {
		class = *in.LogGroupClass
	}
	if class == logs.LogGroupClassDelivery {
		return nil, invalid("The log group class DELIVERY is not supported here.")
	}
	if err := checkTags(nil, in.Tags); err != nil {
		return nil, err
	}
	row := &groupRow{
		Account: sc.Account, Region: sc.Region, Name: name, ID: newID(), Created: s.now(), Class: class,
		Protected: wire.Value(in.DeletionProtectionEnabled), Tags: in.Tags,
	}
	err := s.Store.Update(ctx, func(tx *store.Tx) error { return groups.Insert(tx, row) })
	if errors.Is(err, store.ErrExists) {
		return nil, &logs.ResourceAlreadyExistsException{Message: new("The specified log group already exists")}
	}
	if err != nil {
		return nil, err
	}
	return &logs.CreateLogGroupOutput{}, nil
}

// DescribeLogGroups lists log groups by name, with a prefix, with a part of the
// name in any case of letters, or those named.
func (s *Service) DescribeLogGroups(ctx context.Context, sc auth.Scope, in *logs.DescribeLogGroupsInput) (*logs.DescribeLogGroupsOutput, error) {
	if in.LogGroupNamePrefix != nil && in.LogGroupNamePattern != nil {
		return nil, invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
	}
	if in.LogGroupIdentifiers != nil && (in.LogGroupNamePrefix != nil || in.LogGroupNamePattern != nil) {
		return nil, invalid("LogGroup identifiers can not be combined with a LogGroup name prefix or pattern.")
	}
	pattern := strings.ToLower(wire.Value(in.LogGroupNamePattern))
	var names []string
	for _, id := range in.LogGroupIdentifiers {
		name, ok := groupName(sc, id)
		if !ok {
			return nil, invalid("Invalid log group identifier: " + id)
		}
		names = append(names, name)
	}
	want := func(g *groupRow) bool {
		return (in.LogGroupClass == nil || g.Class == *in.LogGroupClass) &&
			strings.Contains(strings.ToLower(g.Name), pattern) &&
			(names == nil || slices.Contains(names, g.Name)) &&
			(len(in.AccountIdentifiers) == 0 || slices.Contains(in.AccountIdentifiers, g.Account))
	}
	out := &logs.DescribeLogGroupsOutput{LogGroups: []logs.LogGroup{}}
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		page, token, err := pageOfGroups(tx, sc, wire.Value(in.LogGroupNamePrefix), in.NextToken, limit(in.Limit, 50), want)
		if err != nil {
			return err
		}
		out.NextToken = token
		for _, g := range page {
			described, err := describeGroup(tx, g)
			if err != nil {
				return err
			}
			out.LogGroups = append(out.LogGroups, described)
		}
		return nil
	})
	return out, err
}

func describeGroup(tx *store.Tx, g *groupRow) (logs.LogGroup, error) {
	out := logs.LogGroup{
		LogGroupName: &g.Name, CreationTime: &g.Created, LogGroupClass: &g.Class, MetricFilterCount: new(int32(0)),
		Arn: new(g.arn() + ":*"), LogGroupArn: new(g.arn()), StoredBytes: new(int64(0)),
		DeletionProtectionEnabled: &g.Protected,
	}
	if g.Retention > 0 {
		out.RetentionInDays = &g.Retention
	}
	var err error
	*out.StoredBytes, err = storedBytes(tx, g)
	return out, err
}

// storedBytes adds up the group's streams. The sum is not kept in the group's row,
// as all writers of the group would then wait for each other.
func storedBytes(tx *store.Tx, g *groupRow) (int64, error) {
	var sum int64
	for st, err := range streams.Scan(tx, store.Range{Prefix: store.K(g.ID)}) {
		if err != nil {
			return 0, err
		}
		sum += st.Bytes
	}
	return sum, nil
}

// ListLogGroups lists the names of log groups that match a regular expression (up
// to five texts joined by |, each anchored by ^ or not), or with the tags given.
func (s *Service) ListLogGroups(ctx context.Context, sc auth.Scope, in *logs.ListLogGroupsInput) (*logs.ListLogGroupsOutput, error) {
	if in.DataSources != nil || in.FieldIndexNames != nil {
		return nil, invalid("Data sources and field indexes are not supported here.")
	}
	var pattern *regexp.Regexp
	if in.LogGroupNamePattern != nil {
		var err error
		if pattern, err = regexp.Compile(strings.ReplaceAll(*in.LogGroupNamePattern, ".", `\.`)); err != nil {
			return nil, invalid("Invalid log group name pattern")
		}
	}
	want := func(g *groupRow) bool {
		return (in.LogGroupClass == nil || g.Class == *in.LogGroupClass) &&
			(pattern == nil || pattern.MatchString(g.Name)) &&
			(len(in.AccountIdentifiers) == 0 || slices.Contains(in.AccountIdentifiers, g.Account)) &&
			hasTags(g.Tags, in.LogGroupTags)
	}
	out := &logs.ListLogGroupsOutput{LogGroups: []logs.LogGroupSummary{}}
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		page, token, err := pageOfGroups(tx, sc, "", in.NextToken, limit(in.Limit, 50), want)
		out.NextToken = token
		for _, g := range page {
			out.LogGroups = append(out.LogGroups, logs.LogGroupSummary{LogGroupName: &g.Name, LogGroupArn: new(g.arn()), LogGroupClass: &g.Class})
		}
		return err
	})
	return out, err
}

// pageOfGroups returns up to n wanted groups in order of name, and the token of
// the next page.
func pageOfGroups(tx *store.Tx, sc auth.Scope, prefix string, token *string, n int, want func(*groupRow) bool) ([]*groupRow, *string, error) {
	r := store.Range{Prefix: store.KPrefix(sc.Account, sc.Region, prefix)}
	if token != nil {
		last, err := readToken(*token)
		if err != nil {
			return nil, nil, err
		}
		r.After = store.K(sc.Account, sc.Region, last)
	}
	var page []*groupRow
	for g, err := range groups.Scan(tx, r) {
		if err != nil {
			return nil, nil, err
		}
		if !want(g) {
			continue
		}
		if len(page) == n {
			return page, new(writeToken(page[n-1].Name)), nil
		}
		page = append(page, g)
	}
	return page, nil, nil
}

// limit returns a page's size.
func limit(given *int32, usual int) int {
	if given == nil {
		return usual
	}
	return int(*given)
}

// writeToken makes an opaque token of the name after which the next page begins.
func writeToken(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func readToken(token string) (string, error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", errToken()
	}
	return string(b), nil
}

func errToken() error { return invalid("The specified nextToken is invalid.") }

// DeleteLogGroup deletes a group with its streams and events, which the sweep
// removes later.
func (s *Service) DeleteLogGroup(ctx context.Context, sc auth.Scope, in *logs.DeleteLogGroupInput) (*logs.DeleteLogGroupOutput, error) {
	return &logs.DeleteLogGroupOutput{}, s.Store.Update(ctx, func(tx *store.Tx) error {
		g, err := group(tx, sc, wire.Value(in.LogGroupName))
		if err != nil {
			return err
		}
		if err := deletable(g); err != nil {
			return err
		}
		for p, err := range policies.Scan(tx, store.Range{Prefix: store.K(g.Account, g.Region, g.arn())}) {
			if err != nil {
				return err
			}
			if err := policies.Delete(tx, store.K(p.Account, p.Region, p.Group, p.Name)); err != nil {
				return err
			}
		}
		if err := groups.Delete(tx, store.K(g.Account, g.Region, g.Name)); err != nil {
			return err
		}
		return garbage.Put(tx, &garbageRow{Group: g.ID})
	})
}

// deletable refuses to delete a group, or a stream of it, that is protected.
func deletable(g *groupRow) error {
	if !g.Protected {
		return nil
	}
	return &logs.ValidationException{Message: new("Deletion protection is enabled for the log group " + g.Name + ". Disable it before deleting.")}
}

// change alters a group's row.
func (s *Service) change(ctx context.Context, sc auth.Scope, identifier string, f func(g *groupRow) error) error {
	name, ok := groupName(sc, identifier)
	return s.Store.Update(ctx, func(tx *store.Tx) error {
		if !ok {
			name = "" // which no group has
		}
		g, err := group(tx, sc, name)
		if err != nil {
			return err
		}
		if err := f(g); err != nil {
			return err
		}
		return groups.Put(tx, g)
	})
}

// PutLogGroupDeletionProtection protects a group from DeleteLogGroup, or not.
func (s *Service) PutLogGroupDeletionProtection(ctx context.Context, sc auth.Scope, in *logs.PutLogGroupDeletionProtectionInput) (*logs.PutLogGroupDeletionProtectionOutput, error) {
	return &logs.PutLogGroupDeletionProtectionOutput{}, s.change(ctx, sc, wire.Value(in.LogGroupIdentifier), func(g *groupRow) error {
		g.Protected = wire.Value(in.DeletionProtectionEnabled)
		return nil
	})
}

// PutRetentionPolicy says after how many days a group's events expire.
func (s *Service) PutRetentionPolicy(ctx context.Context, sc auth.Scope, in *logs.PutRetentionPolicyInput) (*logs.PutRetentionPolicyOutput, error) {
	days := wire.Value(in.RetentionInDays)
	if !slices.Contains(retentions, days) {
		values := strings.ReplaceAll(strings.Trim(fmt.Sprint(retentions), "[]"), " ", ", ")
		return nil, invalid(fmt.Sprintf("Invalid retention value. Valid values are: [%s]", values))
	}
	return &logs.PutRetentionPolicyOutput{}, s.change(ctx, sc, wire.Value(in.LogGroupName), func(g *groupRow) error {
		g.Retention = days
		return nil
	})
}

// DeleteRetentionPolicy makes a group keep its events for ever.
func (s *Service) DeleteRetentionPolicy(ctx context.Context, sc auth.Scope, in *logs.DeleteRetentionPolicyInput) (*logs.DeleteRetentionPolicyOutput, error) {
	return &logs.DeleteRetentionPolicyOutput{}, s.change(ctx, sc, wire.Value(in.LogGroupName), func(g *groupRow) error {
		g.Retention = 0
		return nil
	})
}
