// A round of IAM, S3, Lambda and Logs with the AWS SDK for JavaScript: round.mjs ZIP RUNTIME
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";
import { IAM } from "@aws-sdk/client-iam";
import { S3 } from "@aws-sdk/client-s3";
import { Lambda, waitUntilFunctionActiveV2 } from "@aws-sdk/client-lambda";
import { CloudWatchLogs, paginateFilterLogEvents } from "@aws-sdk/client-cloudwatch-logs";

const [archive, runtime] = process.argv.slice(2);
const iam = new IAM(), functions = new Lambda(), logs = new CloudWatchLogs();
const s3 = new S3({ forcePathStyle: true }); // bucket.127.0.0.1 is no host

const trust = JSON.stringify({
  Version: "2012-10-17",
  Statement: [{ Effect: "Allow", Principal: { Service: "lambda.amazonaws.com" }, Action: "sts:AssumeRole" }],
});
const { Role } = await iam.createRole({ RoleName: "round-js", AssumeRolePolicyDocument: trust });
assert.equal(decodeURIComponent(Role.AssumeRolePolicyDocument), trust);
await iam.attachRolePolicy({ RoleName: "round-js", PolicyArn: "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole" });

await s3.createBucket({ Bucket: "round-js" });
await s3.putObject({ Bucket: "round-js", Key: "a b/ü+.txt", Body: "hello", Metadata: { colour: "blue" } });
const got = await s3.getObject({ Bucket: "round-js", Key: "a b/ü+.txt" });
assert.equal(await got.Body.transformToString(), "hello");
assert.deepEqual(got.Metadata, { colour: "blue" });
assert.deepEqual((await s3.listObjectsV2({ Bucket: "round-js" })).Contents.map((o) => o.Key), ["a b/ü+.txt"]);
await assert.rejects(s3.getObject({ Bucket: "round-js", Key: "missing" }), { name: "NoSuchKey" });

await functions.createFunction({
  FunctionName: "round-js", Runtime: runtime, Handler: "handler.handler", Role: Role.Arn, Code: { ZipFile: await readFile(archive) },
});
await waitUntilFunctionActiveV2({ client: functions, maxWaitTime: 60 }, { FunctionName: "round-js" });
const answer = await functions.invoke({ FunctionName: "round-js", Payload: JSON.stringify({ name: "JS" }) });
assert.deepEqual(JSON.parse(answer.Payload.transformToString()), { hello: "JS" });
await assert.rejects(functions.invoke({ FunctionName: "nothing" }), { name: "ResourceNotFoundException" });

let messages = [];
for (const until = Date.now() + 60_000; !messages.some((m) => m.startsWith("REPORT RequestId")); await setTimeout(100)) {
  assert.ok(Date.now() < until, "no REPORT line: " + messages);
  messages = [];
  try {
    for await (const page of paginateFilterLogEvents({ client: logs }, { logGroupName: "/aws/lambda/round-js" })) {
      messages.push(...page.events.map((e) => e.message));
    }
  } catch (e) {
    assert.equal(e.name, "ResourceNotFoundException"); // nothing is logged yet
  }
}
assert.ok(messages.some((m) => m.includes("greeting JS")), messages);
console.log("round done");
