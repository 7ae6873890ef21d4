#!/usr/bin/env bash
# Removes what run.sh has made: clean.sh SUFFIX
set -euo pipefail
suffix=${1:?which run: clean.sh SUFFIX}
repository=hello-$suffix
aws() { command aws ${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} --output text "$@"; }

docker rm --force "$repository"
uri=$(aws ecr describe-repositories --repository-names "$repository" --query 'repositories[0].repositoryUri')
docker rmi "$uri:1"
aws ecr delete-repository --repository-name "$repository" --force --query repository.repositoryArn
