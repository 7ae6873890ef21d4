"""A round of IAM, S3, Lambda and Logs with boto3: round.py ZIP RUNTIME"""

import json
import os
import sys
import time

import boto3
from botocore.exceptions import ClientError

archive, runtime = sys.argv[1:]
endpoint = os.environ["AWS_ENDPOINT_URL"]  # which older versions do not read themselves
iam, s3, functions, logs = (boto3.client(n, endpoint_url=endpoint) for n in ("iam", "s3", "lambda", "logs"))

trust = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
role = iam.create_role(RoleName="round-py", AssumeRolePolicyDocument=json.dumps(trust))["Role"]
assert role["AssumeRolePolicyDocument"] == trust, role
iam.attach_role_policy(
    RoleName="round-py", PolicyArn="arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
)

s3.create_bucket(Bucket="round-py")
s3.put_object(Bucket="round-py", Key="a b/ü+.txt", Body=b"hello", Metadata={"Colour": "blue"})
got = s3.get_object(Bucket="round-py", Key="a b/ü+.txt")
assert got["Body"].read() == b"hello" and got["Metadata"] == {"colour": "blue"}, got
assert [o["Key"] for o in s3.list_objects_v2(Bucket="round-py")["Contents"]] == ["a b/ü+.txt"]
with open(archive, "rb") as f:
    s3.upload_fileobj(f, "round-py", "code.zip")
try:
    s3.head_object(Bucket="round-py", Key="missing")
    raise AssertionError("a missing object is there")
except ClientError as e:
    assert e.response["ResponseMetadata"]["HTTPStatusCode"] == 404, e

functions.create_function(
    FunctionName="round-py",
    Runtime=runtime,
    Handler="handler.handler",
    Role=role["Arn"],
    Code={"S3Bucket": "round-py", "S3Key": "code.zip"},
)
functions.get_waiter("function_active_v2").wait(FunctionName="round-py")
answer = functions.invoke(FunctionName="round-py", Payload=json.dumps({"name": "boto3"}), LogType="Tail")
payload = json.loads(answer["Payload"].read())
assert answer["StatusCode"] == 200 and payload == {"hello": "boto3"}, (answer, payload)
assert "LogResult" in answer, answer
try:
    functions.invoke(FunctionName="nothing")
    raise AssertionError("a missing function was invoked")
except functions.exceptions.ResourceNotFoundException as e:
    assert "Function not found: arn:aws:lambda:us-east-1:000000000000:function:nothing" in str(e), e

deadline = time.monotonic() + 60
while True:
    try:
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName="/aws/lambda/round-py")
        messages = [e["message"] for page in pages for e in page["events"]]
    except logs.exceptions.ResourceNotFoundException:
        messages = []
    if any(m.startswith("REPORT RequestId") for m in messages):
        break
    assert time.monotonic() < deadline, messages
    time.sleep(0.1)
assert any("greeting boto3" in m for m in messages), messages
assert iam.list_roles()["Roles"][0]["RoleName"], "no roles"
print("round done")
