// Package ecr is Amazon Elastic Container Registry: the control plane of package
// registry, which keeps the repositories, images and layers and speaks the
// protocol of docker push and pull. All operations of the API are here, those on
// layers included, so that an image can be pushed and pulled by either way.
//
// # Rows
//
// The repositories' own settings are in registry's rows. Here is the rest:
//
//	ecr/registries    account, region                    policy, replication, scanning, account settings
//	ecr/caches        account, region, prefix            pull-through cache rule
//	ecr/templates     account, region, prefix            repository creation template
//	ecr/exclusions    account, region, principal         whose pulls do not count
//	ecr/previews      account, region, name              the last preview of a lifecycle policy
//	ecr/scans         account, region, name, digest      the last scan of an image: its state and counts
//	ecr/findings      account, region, name, digest      what it has found
//	ecr/replicas      account, region, name, digest, to  how far an image's copy is
//	ecr/metered       ""                                 until when storage is metered
//
// # What happens later
//
//	a push ── transaction: image, scan (IN_PROGRESS), replicas (IN_PROGRESS), outbox ── commit
//	            │                      │
//	            │                      └─ loop ecr/scan: COMPLETE, FINDINGS_UNAVAILABLE, UNSUPPORTED_IMAGE, FAILED, LIMIT_EXCEEDED
//	            └─ outbox: COMPLETE or FAILED, with the code of the refusal
//	a preview ── IN_PROGRESS ── loop ecr/preview: COMPLETE ── after a day: EXPIRED
//	a lifecycle policy ── loop ecr/lifecycle: at once and every ten minutes; AWS takes up to a day
//
// # Scans
//
// A scan lists the packages that an image's layers hold (see package scan for which)
// and looks them up in the feed that `skerry up --vulnerabilities FOLDER` names, a
// folder of files in OSV's format. Without a feed the scan ends in the status
// FINDINGS_UNAVAILABLE, says so in its description, and its findings are the
// packages themselves, with the severity INFORMATIONAL; with one it is COMPLETE,
// and its findings are vulnerabilities alone. AWS's own are of operating systems'
// packages only; ours of Go's and Node's too.
//
// # What is left out
//
// Encryption with KMS keys (KmsException) and credentials of upstream registries
// (SecretNotFoundException), as there are no keys and secrets; so images of Docker
// Hub and others are pulled through without a password, and such rules are
// accepted without one. Enhanced scanning (Amazon Inspector) and signing rules (AWS
// Signer) are refused. Events to EventBridge are not sent, as there is none.
// BatchGetImage, GetDownloadUrlForLayer and ListImageReferrers do not ask an
// upstream; docker pull does. Principals in policies are not checked for being
// there.
//
// # What differs from AWS
//
// Images are archived and restored at once. Upstreams of the kind ecr are the
// registries of this cloud. The account setting BLOB_MOUNTING is ENABLED, and
// REGISTRY_POLICY_SCOPE is V2, until they are set. Throttling quotas, and those of
// images and repositories, are not applied.
package ecr
