#!/usr/bin/env bash
# Removes what run.sh has made: clean.sh SUFFIX
set -euo pipefail
suffix=${1:?which run: clean.sh SUFFIX}
aws() { command aws ${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} --output text "$@"; }

aws lambda delete-function --function-name "thumbnail-$suffix"
aws s3 rb "s3://pictures-$suffix" --force
aws s3 rb "s3://thumbnails-$suffix" --force
aws iam delete-role-policy --role-name "thumbnail-$suffix" --policy-name thumbnail
aws iam delete-role --role-name "thumbnail-$suffix"
aws logs delete-log-group --log-group-name "/aws/lambda/thumbnail-$suffix"
