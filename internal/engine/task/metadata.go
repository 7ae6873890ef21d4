package task

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"skerry/internal/engine"
	"skerry/internal/store"
)

// credentialsPath is where a role's credentials are, at metadataAddress.
const credentialsPath = "/v2/credentials/"

// The answers of "Amazon ECS task metadata endpoint version 4".
type (
	taskMetadata struct {
		Cluster            string
		TaskARN            string
		Family             string
		Revision           string
		ServiceName        string `json:",omitempty"`
		DesiredStatus      string
		KnownStatus        string
		Limits             *limitsMetadata `json:",omitempty"`
		PullStartedAt      *time.Time      `json:",omitempty"`
		PullStoppedAt      *time.Time      `json:",omitempty"`
		ExecutionStoppedAt *time.Time      `json:",omitempty"`
		AvailabilityZone   string          `json:",omitempty"`
		LaunchType         string          `json:",omitempty"`
		Containers         []containerMetadata
	}
	containerMetadata struct {
		DockerID      string `json:"DockerId"`
		Name          string
		DockerName    string
		Image         string
		ImageID       string
		Ports         []portMetadata `json:",omitempty"`
		Labels        map[string]string
		DesiredStatus string
		KnownStatus   string
		ExitCode      *int `json:",omitempty"`
		Limits        limitsMetadata
		CreatedAt     *time.Time        `json:",omitempty"`
		StartedAt     *time.Time        `json:",omitempty"`
		FinishedAt    *time.Time        `json:",omitempty"`
		Type          string            // always NORMAL
		Health        *healthMetadata   `json:",omitempty"`
		Volumes       []volumeMetadata  `json:",omitempty"`
		LogDriver     string            `json:",omitempty"`
		LogOptions    map[string]string `json:",omitempty"`
		ContainerARN  string            `json:",omitempty"`
		Networks      []networkMetadata `json:",omitempty"`
		RestartCount  *int              `json:",omitempty"`
	}
	limitsMetadata struct {
		CPU    float64 `json:",omitempty"`
		Memory int64   `json:",omitempty"` // MiB
	}
	portMetadata struct {
		ContainerPort uint16
		Protocol      string
		HostPort      uint16 `json:",omitempty"`
		HostIp        string `json:",omitempty"`
	}
	healthMetadata struct {
		Status      Health     `json:"status"`
		StatusSince *time.Time `json:"statusSince,omitempty"`
		ExitCode    int        `json:"exitCode,omitempty"`
		Output      string     `json:"output,omitempty"`
	}
	volumeMetadata  struct{ Source, Destination string }
	networkMetadata struct {
		NetworkMode              string
		IPv4Addresses            []string
		AttachmentIndex          *int     `json:",omitempty"`
		MACAddress               string   `json:",omitempty"`
		IPv4SubnetCIDRBlock      string   `json:",omitempty"`
		DomainNameServers        []string `json:",omitempty"`
		PrivateDNSName           string   `json:",omitempty"`
		SubnetGatewayIpv4Address string   `json:",omitempty"`
	}
	credentialsMetadata struct {
		RoleArn, AccessKeyId, SecretAccessKey, Token string
		Expiration                                   string
	}
	credentialsFault struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
)

// metadata answers in a task's sandbox.
func (r *Runner) metadata(id engine.ID, credentials string) http.Handler {
	m := http.NewServeMux()
	view := func(answer func(w http.ResponseWriter, q *http.Request, s *Status, c *ContainerStatus)) http.HandlerFunc {
		return func(w http.ResponseWriter, q *http.Request) {
			s, err := r.statusOf(q.Context(), id)
			if errors.Is(err, store.ErrNotFound) {
				reply(w, http.StatusNotFound, "V4 metadata handler: unable to get task arn from request")
				return
			}
			if err != nil {
				reply(w, http.StatusInternalServerError, "failed to get task metadata")
				return
			}
			for i := range s.Status {
				if string(s.Status[i].ID) == q.PathValue("container") {
					answer(w, q, s, &s.Status[i])
					return
				}
			}
			reply(w, http.StatusNotFound, "V4 container metadata handler: unable to get container ID from request")
		}
	}
	m.HandleFunc("GET /v4/{container}", view(func(w http.ResponseWriter, _ *http.Request, s *Status, c *ContainerStatus) {
		reply(w, http.StatusOK, s.containerMetadata(c))
	}))
	whole := view(func(w http.ResponseWriter, _ *http.Request, s *Status, _ *ContainerStatus) {
		reply(w, http.StatusOK, s.metadata())
	})
	m.HandleFunc("GET /v4/{container}/task", whole)
	m.HandleFunc("GET /v4/{container}/taskWithTags", whole)
	m.HandleFunc("GET /v4/{container}/stats", view(func(w http.ResponseWriter, q *http.Request, s *Status, c *ContainerStatus) {
		reply(w, http.StatusOK, r.stats(q.Context(), s, c))
	}))
	m.HandleFunc("GET /v4/{container}/task/stats", view(func(w http.ResponseWriter, q *http.Request, s *Status, _ *ContainerStatus) {
		all := map[engine.ID]*dockerStats{}
		for i := range s.Status {
			all[s.Status[i].ID] = r.stats(q.Context(), s, &s.Status[i])
		}
		reply(w, http.StatusOK, all)
	}))
	m.HandleFunc("GET "+credentialsPath+"{id...}", func(w http.ResponseWriter, q *http.Request) {
		r.serveCredentials(w, q, id, credentials)
	})
	return m
}

func reply(w http.ResponseWriter, code int, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(b)
}

func (r *Runner) statusOf(ctx context.Context, id engine.ID) (s *Status, err error) {
	err = r.Store.View(ctx, func(tx *store.Tx) error {
		s, err = r.Get(tx, id)
		return err
	})
	return s, err
}

// serveCredentials answers with the credentials of the task's role.
func (r *Runner) serveCredentials(w http.ResponseWriter, q *http.Request, id engine.ID, credentials string) {
	fault := func(status int, code, message string) {
		reply(w, status, credentialsFault{code, "CredentialsV2Request: " + message})
	}
	switch asked := q.PathValue("id"); {
	case asked == "":
		fault(http.StatusBadRequest, "NoIdInRequest", "No Credential ID in the request")
		return
	case asked != credentials || r.Credentials == nil:
		fault(http.StatusBadRequest, "InvalidIdInRequest", "Credentials not found")
		return
	}
	s, err := r.statusOf(q.Context(), id)
	if err != nil {
		fault(http.StatusInternalServerError, "InternalServerError", "Internal server error")
		return
	}
	c, err := r.Credentials(q.Context(), &s.Task)
	if err != nil {
		r.Log.Warn("no credentials for a task's role", "task", id, "err", err)
		fault(http.StatusServiceUnavailable, "CredentialsUninitialized", "Credentials uninitialized for ID")
		return
	}
	reply(w, http.StatusOK, credentialsMetadata{RoleArn: c.RoleARN, AccessKeyId: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey,
		Token: c.Token, Expiration: c.Expiration.UTC().Format(time.RFC3339)})
}

// shown is a state as the agent knows it: it has fewer than ECS.
func (s State) shown() string {
	switch s {
	case Provisioning, Pending, Activating:
		return "PENDING"
	case Stopped, Deprovisioning:
		return "STOPPED"
	}
	return "RUNNING"
}

func (s *Status) metadata() taskMetadata {
	m := taskMetadata{
		Cluster: s.Cluster, TaskARN: s.ARN, Family: s.Family, Revision: s.Revision, ServiceName: s.Service,
		DesiredStatus: string(s.Desired), KnownStatus: s.State.shown(), PullStartedAt: moment(s.PullStarted),
		PullStoppedAt: moment(s.PullStopped), ExecutionStoppedAt: moment(s.ExecutionStopped), AvailabilityZone: s.Zone, LaunchType: s.LaunchType,
	}
	if s.CPU > 0 || s.Memory > 0 {
		m.Limits = &limitsMetadata{CPU: s.CPU, Memory: s.Memory >> 20}
	}
	for i := range s.Status {
		m.Containers = append(m.Containers, s.containerMetadata(&s.Status[i]))
	}
	return m
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func (s *Status) containerMetadata(c *ContainerStatus) containerMetadata {
	spec := s.find(c.Name)
	m := containerMetadata{
		DockerID: string(c.ID), Name: c.Name, DockerName: c.Name, Image: spec.Image, ImageID: c.Image, Labels: map[string]string{},
		DesiredStatus: string(s.Desired), KnownStatus: string(c.State), ExitCode: c.ExitCode,
		Limits: limitsMetadata{CPU: float64(spec.CPU), Memory: spec.Memory >> 20}, CreatedAt: moment(c.Created), StartedAt: moment(c.Started),
		Type: "NORMAL", LogDriver: spec.Log.Driver, LogOptions: spec.Log.Options,
	}
	if c.State == ContainerStopped {
		m.FinishedAt = moment(c.Finished)
	}
	for k, v := range spec.Labels {
		m.Labels[k] = v
	}
	for k, v := range map[string]string{"cluster": s.Cluster, "container-name": c.Name, "task-arn": s.ARN,
		"task-definition-family": s.Family, "task-definition-version": s.Revision} {
		m.Labels["com.amazonaws.ecs."+k] = v
	}
	if s.ARN != "" {
		m.ContainerARN = strings.Replace(s.ARN, ":task/", ":container/", 1) + "/" + string(c.ID)
	}
	for _, p := range c.Ports {
		pm := portMetadata{ContainerPort: p.Container, Protocol: first(p.Protocol, "tcp"), HostPort: p.Host}
		if p.Address.IsValid() {
			pm.HostIp = p.Address.String()
		}
		m.Ports = append(m.Ports, pm)
	}
	if spec.Health != nil {
		m.Health = &healthMetadata{Status: c.Health, StatusSince: moment(c.HealthSince), ExitCode: c.HealthCode, Output: c.HealthOutput}
	}
	if spec.Restart != nil {
		m.RestartCount = &c.Restarts
	}
	for _, v := range spec.Mounts {
		m.Volumes = append(m.Volumes, volumeMetadata{v.Volume, v.Path})
	}
	m.Networks = s.networkMetadata(c)
	return m
}

func (s *Status) networkMetadata(c *ContainerStatus) []networkMetadata {
	n := networkMetadata{NetworkMode: string(s.Network.Mode)}
	address := c.Address
	if s.Network.Mode == AWSVPC {
		address = s.Address
		index := 0
		n.AttachmentIndex, n.MACAddress = &index, s.Network.MAC
		n.DomainNameServers = []string{resolverAddress}
		if p := s.Network.Subnet; p.IsValid() {
			n.IPv4SubnetCIDRBlock = p.String()
			n.SubnetGatewayIpv4Address = netip.PrefixFrom(p.Masked().Addr().Next(), p.Bits()).String()
		}
		if address.Is4() {
			n.PrivateDNSName = "ip-" + strings.ReplaceAll(address.String(), ".", "-") + ".ec2.internal"
		}
	}
	if address.IsValid() {
		n.IPv4Addresses = []string{address.String()}
	}
	return []networkMetadata{n}
}
