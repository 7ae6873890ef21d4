package lambda

import (
	"time"

	"skerry/internal/blob"
	"skerry/internal/store"
)

// functionRow is what belongs to a function as a whole.
type functionRow struct {
	Account, Region, Name string
	Created               time.Time
	Tags                  map[string]string
	Reserved              *int32 // reserved concurrency
	LastVersion           int64  // the highest number published
}

func (r *functionRow) ref() ref { return ref{Account: r.Account, Region: r.Region, Name: r.Name} }

var functions = store.NewTable("lambda/functions", func(r *functionRow) store.Key {
	return store.K(r.Account, r.Region, r.Name)
})

// The states of a function and of its last update.
const (
	statePending = "Pending"
	stateActive  = "Active"
	stateFailed  = "Failed"

	updateInProgress = "InProgress"
	updateSuccessful = "Successful"
	updateFailed     = "Failed"
)

// versionRow is a configuration with its code: $LATEST (Number 0) or a published
// version.
type versionRow struct {
	Account, Region, Name string
	Number                int64

	Config   config
	Code     code
	Revision string
	Modified time.Time

	State, StateReason, StateCode    string
	Update, UpdateReason, UpdateCode string
}

func (r *versionRow) ref() ref {
	return ref{Account: r.Account, Region: r.Region, Name: r.Name, Qualifier: versionName(r.Number)}
}

var versions = store.NewTable("lambda/versions", func(r *versionRow) store.Key {
	return store.K(r.Account, r.Region, r.Name, r.Number)
}, unsettled, byCode)

// unsettled holds the versions whose state is about to change.
var unsettled = store.NewIndex("unsettled", func(r *versionRow) []store.Key {
	if r.State == statePending || r.Update == updateInProgress {
		return []store.Key{store.K(r.Modified)}
	}
	return nil
})

var byCode = store.NewIndex("code", func(r *versionRow) []store.Key {
	keys := []store.Key{store.K(string(r.Code.Ref))}
	for _, l := range r.Config.Layers {
		keys = append(keys, store.K(string(l.Ref)))
	}
	return keys
})

// config is what CreateFunction and UpdateFunctionConfiguration set.
type config struct {
	Runtime, Handler, Role, Description string
	Timeout                             int32 // seconds
	Memory                              int32 // MB
	Storage                             int32 // MB of /tmp
	Environment                         map[string]string
	Architecture                        string
	Layers                              []layerUse
	DeadLetter                          string // ARN
	Tracing                             string
	KMSKey                              string
	Log                                 logConfig
}

type logConfig struct{ Format, Application, System, Group string }

// layerUse is a layer's version as a function uses it.
type layerUse struct {
	ARN  string
	Size int64
	Ref  blob.Ref
}

// code is a zip file.
type code struct {
	Ref    blob.Ref
	SHA256 string // base64
	Size   int64  // of the zip file in bytes
}

// aliasRow is a name for a version, or for two with weights.
type aliasRow struct {
	Account, Region, Name, Alias string
	Version                      string
	Description                  string
	Weights                      map[string]float64 // of further versions
	Revision                     string
}

var aliases = store.NewTable("lambda/aliases", func(r *aliasRow) store.Key {
	return store.K(r.Account, r.Region, r.Name, r.Alias)
})

// policyRow is the resource policy of a function, version or alias.
type policyRow struct {
	Account, Region, Name, Qualifier string
	Statements                       []statement
	Revision                         string
}

var policies = store.NewTable("lambda/policies", func(r *policyRow) store.Key {
	return store.K(r.Account, r.Region, r.Name, r.Qualifier)
})

// asyncRow is how asynchronous invocations of a function, version or alias are
// handled.
type asyncRow struct {
	Account, Region, Name, Qualifier string
	Retries, MaxAge                  *int32 // MaxAge in seconds
	OnSuccess, OnFailure             *string
	Modified                         time.Time
}

var asyncs = store.NewTable("lambda/async", func(r *asyncRow) store.Key {
	return store.K(r.Account, r.Region, r.Name, r.Qualifier)
})

// layerRow is one version of a layer. A deleted one stays as a number that is not
// given again.
type layerRow struct {
	Account, Region, Name string
	Version               int64
	Description, License  string
	Runtimes, Archs       []string
	Code                  code
	Created               time.Time
	Deleted               bool
}

var layers = store.NewTable("lambda/layers", func(r *layerRow) store.Key {
	return store.K(r.Account, r.Region, r.Name, r.Version)
}, layersByCode)

var layersByCode = store.NewIndex("code", func(r *layerRow) []store.Key {
	if r.Deleted {
		return nil
	}
	return []store.Key{store.K(string(r.Code.Ref))}
})

// blobRow is a blob that holds code. It is written before anything refers to the
// blob, so that one which nothing came to refer to is found.
type blobRow struct {
	Ref  blob.Ref
	Kept time.Time
}

var blobs = store.NewTable("lambda/blobs", func(r *blobRow) store.Key { return store.K(string(r.Ref)) })

// secretRow holds the key that signs the links to download code.
type secretRow struct {
	Name string
	Key  []byte
}

var secrets = store.NewTable("lambda/secrets", func(r *secretRow) store.Key { return store.K(r.Name) })

func (r ref) key() store.Key { return store.K(r.Account, r.Region, r.Name) }

// getFunction reads a function's row; a missing one is AWS's error.
func getFunction(tx *store.Tx, r ref) (*functionRow, error) {
	row, err := functions.Get(tx, r.key())
	if err == store.ErrNotFound {
		return nil, r.missing()
	}
	return row, err
}

func getVersion(tx *store.Tx, r ref, number int64) (*versionRow, error) {
	row, err := versions.Get(tx, r.key()+store.K(number))
	if err == store.ErrNotFound {
		return nil, r.missing()
	}
	return row, err
}
