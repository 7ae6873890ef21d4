#!/usr/bin/env bash
# Makes an image of a Go program without Docker, pushes it to ECR, pulls it from
# there and runs it: run.sh [SUFFIX]
#
# The AWS CLI, Go and the stock docker client against whatever the environment
# says: with `eval "$(skerry env)"` and DOCKER_HOST the machine's own cloud.
# clean.sh SUFFIX removes everything.
set -euo pipefail
cd "$(dirname "$0")"

suffix=${1:-$(date +%s)}
repository=hello-$suffix
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Older CLIs do not know AWS_ENDPOINT_URL; --endpoint-url says the same to all.
aws() { command aws ${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} --output text "$@"; }
say() { printf '\n== %s\n' "$*"; }

say "a static web server"
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/server" ./server
ls -l "$work/server" | awk '{print $5, "bytes"}'

say "a repository"
uri=$(aws ecr create-repository --repository-name "$repository" --query repository.repositoryUri)
echo "$uri"

say "an image of it"
go run ./pack "$uri:1" "$work/server" > "$work/image.tar"
docker load --input "$work/image.tar"

say "pushed"
export DOCKER_CONFIG=$work # the login is for this run alone
aws ecr get-login-password | docker login --username AWS --password-stdin "${uri%%/*}"
docker push "$uri:1"
aws ecr describe-images --repository-name "$repository" --query 'imageDetails[].[imageDigest,imageSizeInBytes]'

say "pulled"
docker rmi "$uri:1"
docker pull "$uri:1"

say "run"
docker run --detach --name "$repository" --publish 127.0.0.1::8080 "$uri:1"
address=$(docker port "$repository" 8080/tcp)
tries=0
until curl --silent --show-error --fail "http://$address/"; do
  tries=$((tries + 1))
  if [ "$tries" -gt 50 ]; then docker logs "$repository"; exit 1; fi
  sleep 0.2
done

say "its log"
docker logs "$repository"

printf '\nDone. To remove everything: %s %s\n' "$(dirname "$0")/clean.sh" "$suffix"
