package sts

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"longshore.dev/longshore/internal/policy"
	"longshore.dev/longshore/internal/wire"
)

const (
	defaultSession = 3600 // seconds
	chainedSession = 3600 // seconds, at most
	maxPolicyText  = 2048 // characters of session policies
	maxPolicyARNs  = 10
	maxTags        = 50
	// maxPacked bounds the bytes of a session's policies and tags together: tokens
	// travel in a header of every request.
	maxPacked = 8192
)

func theRole(_ context.Context, in *sts.AssumeRoleInput) []string { return []string{*in.RoleArn} }

// assumeConditions are the keys of sts:AssumeRole, and of what else it needs.
func assumeConditions(ctx context.Context, in *sts.AssumeRoleInput) map[string][]string {
	c := map[string][]string{"sts:RoleSessionName": {*in.RoleSessionName}}
	if in.ExternalId != nil {
		c["sts:ExternalId"] = []string{*in.ExternalId}
	}
	if source := sourceIdentity(ctx, in); source != "" {
		c["sts:SourceIdentity"] = []string{source}
	}
	if len(in.TransitiveTagKeys) > 0 {
		c["sts:TransitiveTagKeys"] = in.TransitiveTagKeys
	}
	for _, t := range in.Tags {
		c["aws:RequestTag/"+*t.Key] = []string{*t.Value}
		c["aws:TagKeys"] = append(c["aws:TagKeys"], *t.Key)
	}
	return c
}

// alsoToAssume: a session is tagged, and keeps a source identity, only where that is
// allowed too, whether they are new or come with the caller's own session.
func alsoToAssume(ctx context.Context, in *sts.AssumeRoleInput) (also []wire.Permission) {
	ask := func(action string) {
		also = append(also, wire.Permission{Action: action, Resources: theRole(ctx, in), Conditions: assumeConditions(ctx, in)})
	}
	caller := wire.CallFrom(ctx).Principal.Session
	if len(in.Tags) > 0 || len(in.TransitiveTagKeys) > 0 || caller != nil && len(caller.Transitive) > 0 {
		ask("sts:TagSession")
	}
	if sourceIdentity(ctx, in) != "" {
		ask("sts:SetSourceIdentity")
	}
	return also
}

// sourceIdentity is that of the caller's session, or else the one that is asked for.
func sourceIdentity(ctx context.Context, in *sts.AssumeRoleInput) string {
	if caller := wire.CallFrom(ctx).Principal.Session; caller != nil && caller.SourceIdentity != "" {
		return caller.SourceIdentity
	}
	return or(in.SourceIdentity, "")
}

// AssumeRole gives credentials of a role to whom it trusts.
func (s *Service) AssumeRole(ctx context.Context, in *sts.AssumeRoleInput) (*sts.AssumeRoleOutput, error) {
	caller := wire.CallFrom(ctx).Principal
	switch {
	case caller.Kind == wire.PrincipalRoot:
		return nil, errDenied("Roles may not be assumed by root accounts.")
	case in.SerialNumber != nil || in.TokenCode != nil:
		return nil, errNoSecondFactor
	case len(in.ProvidedContexts) > 0:
		return nil, errInvalid("ProvidedContexts are not supported: there is no context provider here.")
	}
	role := s.deps.Roles.Role(*in.RoleArn)
	if role == nil { // deleted meanwhile
		return nil, errDenied(fmt.Sprintf("User: %s is not authorized to perform: sts:AssumeRole on resource: %s", caller.ARN, *in.RoleArn))
	}
	chained := caller.Kind == wire.PrincipalRole
	seconds := or(in.DurationSeconds, defaultSession)
	switch {
	case chained && seconds > chainedSession:
		return nil, errInvalid("The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.")
	case seconds > *role.MaxSessionDuration:
		return nil, errInvalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	account := strings.Split(*role.Arn, ":")[4]
	session := s.session(seconds)
	session.RoleID, session.RoleARN, session.Name, session.Chained = *role.RoleId, *role.Arn, *in.RoleSessionName, chained
	if err := s.limit(session, in, account); err != nil {
		return nil, err
	}
	if err := tag(session, in, caller.Session); err != nil {
		return nil, err
	}
	if err := name(session, in, caller.Session); err != nil {
		return nil, err
	}
	packed, err := packedSize(session)
	if err != nil {
		return nil, err
	}
	p := wire.Principal{
		Kind: wire.PrincipalRole, AccountID: account, Session: session,
		ARN:    "arn:aws:sts::" + account + ":assumed-role/" + *role.RoleName + "/" + session.Name,
		UserID: session.RoleID + ":" + session.Name,
	}
	credentials, err := s.deps.Roles.Issue(ctx, p)
	if err != nil {
		return nil, err
	}
	out := &sts.AssumeRoleOutput{
		Credentials: credentials, AssumedRoleUser: &types.AssumedRoleUser{Arn: &p.ARN, AssumedRoleId: &p.UserID},
		//lint:ignore SA1019 clients still read it
		PackedPolicySize: packed,
	}
	out.SessionTokenSize, out.SessionTokenUtilization = tokenSize(credentials)
	if session.SourceIdentity != "" {
		out.SourceIdentity = &session.SourceIdentity
	}
	return out, nil
}

// limit gives a session its policies.
func (s *Service) limit(session *wire.Session, in *sts.AssumeRoleInput, account string) error {
	if len(in.PolicyArns) > maxPolicyARNs {
		return errInvalid("1 validation error detected: Value at 'policyArns' failed to satisfy constraint: Member must have length less than or equal to %d", maxPolicyARNs)
	}
	text := utf8.RuneCountInString(or(in.Policy, ""))
	for _, d := range in.PolicyArns {
		arn := or(d.Arn, "")
		text += len(arn)
		if !s.deps.Roles.HasPolicy(account, arn) {
			return errInvalid("Policy %s does not exist or is not attachable.", clip(arn))
		}
		session.PolicyARNs = append(session.PolicyARNs, arn)
	}
	if text > maxPolicyText {
		return errInvalid("1 validation error detected: Value at 'policy' failed to satisfy constraint: Member must have length less than or equal to %d", maxPolicyText)
	}
	if in.Policy == nil {
		return nil
	}
	if _, err := policy.Parse([]byte(*in.Policy), policy.Identity); err != nil {
		m := err.Error()
		return &types.MalformedPolicyDocumentException{Message: &m}
	}
	session.Policy = *in.Policy
	return nil
}

// tag gives a session its tags: those that are asked for, and the transitive ones of
// the session that it is assumed from, which cannot be replaced.
func tag(session *wire.Session, in *sts.AssumeRoleInput, caller *wire.Session) error {
	tags, keys := map[string]string{}, map[string]string{} // keys by their lower case
	for _, t := range in.Tags {
		key := *t.Key
		if _, twice := keys[strings.ToLower(key)]; twice {
			return errInvalid("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
		if strings.HasPrefix(strings.ToLower(key), "aws:") {
			return errInvalid("The tag key %s begins with aws:, which is reserved.", clip(key))
		}
		keys[strings.ToLower(key)], tags[key] = key, *t.Value
	}
	for _, wanted := range in.TransitiveTagKeys {
		key, ok := keys[strings.ToLower(wanted)]
		if !ok {
			return errInvalid("The specified transitive tag key must be included in the requested tags.")
		}
		if !slices.Contains(session.Transitive, key) {
			session.Transitive = append(session.Transitive, key)
		}
	}
	if caller != nil {
		for _, key := range caller.Transitive {
			if _, taken := keys[strings.ToLower(key)]; taken {
				return errInvalid("One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.")
			}
			tags[key] = caller.Tags[key]
			session.Transitive = append(session.Transitive, key)
		}
	}
	if len(tags) > maxTags {
		return errInvalid("A session can have at most %d tags, those inherited included.", maxTags)
	}
	if len(tags) > 0 {
		session.Tags = tags
	}
	return nil
}

// name gives a session its source identity, which stays the same along a chain.
func name(session *wire.Session, in *sts.AssumeRoleInput, caller *wire.Session) error {
	session.SourceIdentity = or(in.SourceIdentity, "")
	if strings.HasPrefix(strings.ToLower(session.SourceIdentity), "aws:") {
		return errInvalid("The source identity begins with aws:, which is reserved.")
	}
	if caller == nil || caller.SourceIdentity == "" {
		return nil
	}
	if session.SourceIdentity != "" && session.SourceIdentity != caller.SourceIdentity {
		return errDenied("The source identity of the calling session cannot be changed.")
	}
	session.SourceIdentity = caller.SourceIdentity
	return nil
}

// packedSize is how much of what a token may hold its policies and tags take, in
// percent; nil where there are none.
func packedSize(session *wire.Session) (*int32, error) {
	bytes := len(session.Policy)
	for _, arn := range session.PolicyARNs {
		bytes += len(arn)
	}
	for key, value := range session.Tags {
		bytes += len(key) + len(value)
	}
	if bytes == 0 {
		return nil, nil
	}
	percent := int32((bytes*100 + maxPacked - 1) / maxPacked)
	if percent > 100 {
		m := fmt.Sprintf("Packed policy consumes %d%% of allotted space, please use smaller policy.", percent)
		return nil, &types.PackedPolicyTooLargeException{Message: &m}
	}
	return &percent, nil
}

// tokenSize is how many bytes a session token has, and how much of the most that one
// may have, in percent.
func tokenSize(c *types.Credentials) (size, utilization *int32) {
	bytes := int32(len(*c.SessionToken))
	percent := (bytes*100 + wire.MaxSessionToken - 1) / wire.MaxSessionToken
	return &bytes, &percent
}

func errInvalid(format string, args ...any) error {
	return wire.Errorf("ValidationError", format, args...)
}

// clip bounds a client's text within a message.
func clip(text string) string {
	if len(text) > 200 {
		text = text[:200] + "…"
	}
	return strings.ToValidUTF8(text, "")
}
