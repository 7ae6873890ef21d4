#!/usr/bin/env bash
# Uploads a picture and waits for its thumbnail: run.sh [SUFFIX]
#
# Plain AWS CLI calls, of version 1 or 2, against whatever the environment says:
# with `eval "$(skerry env)"` the machine's own cloud. SUFFIX tells apart the
# names of several runs. clean.sh SUFFIX removes everything.
set -euo pipefail
cd "$(dirname "$0")"

suffix=${1:-$(date +%s)}
pictures=pictures-$suffix
thumbnails=thumbnails-$suffix
function=thumbnail-$suffix
python=${PYTHON:-/usr/bin/python3} # one with Pillow, to draw the sample picture
runtime=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Older CLIs do not know AWS_ENDPOINT_URL; --endpoint-url says the same to all.
aws() { command aws ${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} --output text "$@"; }
say() { printf '\n== %s\n' "$*"; }

say "two buckets: $pictures and $thumbnails"
aws s3 mb "s3://$pictures"
aws s3 mb "s3://$thumbnails"

say "a role that may read the one, write the other, and write its log"
sed "s/SUFFIX/$suffix/" policy.json > "$work/policy.json"
role=$(aws iam create-role --role-name "$function" --assume-role-policy-document file://trust.json --query Role.Arn)
aws iam put-role-policy --role-name "$function" --policy-name thumbnail --policy-document "file://$work/policy.json"
echo "$role"

say "the function"
"$python" -m zipfile -c "$work/function.zip" handler.py
create() {
  aws lambda create-function --function-name "$function" --runtime "$runtime" --handler handler.handler \
    --role "$role" --zip-file "fileb://$work/function.zip" --timeout 30 --memory-size 512 \
    --environment "Variables={THUMBNAIL_BUCKET=$thumbnails}" --query FunctionArn
}
# A new role takes some seconds until AWS lets Lambda assume it.
arn=$(create) || { sleep 10; arn=$(create); }
aws lambda wait function-active --function-name "$function"
echo "$arn"

say "the bucket may invoke it, and does so for every new picture"
account=$(aws sts get-caller-identity --query Account)
aws lambda add-permission --function-name "$function" --statement-id pictures --action lambda:InvokeFunction \
  --principal s3.amazonaws.com --source-arn "arn:aws:s3:::$pictures" --source-account "$account" > "$work/permission"
aws s3api put-bucket-notification-configuration --bucket "$pictures" --notification-configuration \
  "{\"LambdaFunctionConfigurations\":[{\"LambdaFunctionArn\":\"$arn\",\"Events\":[\"s3:ObjectCreated:*\"],\"Filter\":{\"Key\":{\"FilterRules\":[{\"Name\":\"suffix\",\"Value\":\".jpg\"}]}}}]}"

say "a picture"
"$python" picture.py "$work/islet.jpg"
aws s3 cp "$work/islet.jpg" "s3://$pictures/islet.jpg" --no-progress

say "its thumbnail"
tries=0
until aws s3 cp "s3://$thumbnails/islet.jpg" "$work/thumbnail.jpg" --no-progress 2> "$work/error"; do
  tries=$((tries + 1))
  if [ "$tries" -gt 60 ]; then cat "$work/error"; echo "no thumbnail after a minute"; exit 1; fi
  sleep 1
done
"$python" -c 'import sys; from PIL import Image; i = Image.open(sys.argv[1]); print(i.format, "%dx%d" % i.size)' "$work/thumbnail.jpg"
wc -c < "$work/islet.jpg" | xargs echo "bytes of the picture:  "
wc -c < "$work/thumbnail.jpg" | xargs echo "bytes of the thumbnail:"

say "the function's log"
tries=0
until aws logs filter-log-events --log-group-name "/aws/lambda/$function" --query 'events[].[message]' > "$work/log" 2> "$work/error" \
  && grep -q '^REPORT' "$work/log"; do
  tries=$((tries + 1))
  if [ "$tries" -gt 60 ]; then cat "$work/error" "$work/log"; echo "no REPORT line after a minute"; exit 1; fi
  sleep 1
done
cat "$work/log"

printf '\nDone. To remove everything: %s %s\n' "$(dirname "$0")/clean.sh" "$suffix"
