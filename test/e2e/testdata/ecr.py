"""A walk through ECR with boto3: an image is made and pulled by the API alone, and
by HTTP as docker does; listed, scanned, previewed, copied, expired and deleted.
The server has a feed of vulnerabilities."""
import base64, hashlib, io, json, os, tarfile, time, urllib.request, urllib.error
import boto3
from botocore.exceptions import ClientError
ep=os.environ["AWS_ENDPOINT_URL"]
def client(region="us-east-1"): return boto3.client("ecr", endpoint_url=ep, region_name=region)
ecr=client()
def fails(code, text, fn, **kw):
    try: fn(**kw)
    except ClientError as e:
        err=e.response["Error"]
        assert err["Code"]==code and text in err["Message"], (fn, err)
        return e.response
    raise AssertionError(f"{fn} with {kw} succeeded, want {code}")
digest=lambda b: "sha256:"+hashlib.sha256(b).hexdigest()
R="team/app"

# repositories
r=ecr.create_repository(repositoryName=R,tags=[{"Key":"a","Value":"b"}],imageScanningConfiguration={"scanOnPush":True})["repository"]
assert r["repositoryArn"]==f"arn:aws:ecr:us-east-1:{r['registryId']}:repository/{R}", r
fails("RepositoryAlreadyExistsException",f"The repository with name '{R}' already exists in the registry with id '{r['registryId']}'",ecr.create_repository,repositoryName=R)
fails("InvalidParameterException","repositoryName",ecr.create_repository,repositoryName="Bad/Name")
fails("RepositoryNotFoundException","The repository with name 'none' does not exist",ecr.describe_images,repositoryName="none")
for i in range(5): ecr.create_repository(repositoryName=f"page/{i}")
pages=ecr.get_paginator("describe_repositories").paginate(PaginationConfig={"PageSize":2})
assert [x["repositoryName"] for p in pages for x in p["repositories"]]==[f"page/{i}" for i in range(5)]+[R]

# an image by the API: two layers, one of them in parts
def layer(data, part=5<<20):
    u=ecr.initiate_layer_upload(repositoryName=R)
    for at in range(0,len(data),part):
        b=data[at:at+part]
        got=ecr.upload_layer_part(repositoryName=R,uploadId=u["uploadId"],partFirstByte=at,partLastByte=at+len(b)-1,layerPartBlob=b)
        assert got["lastByteReceived"]==at+len(b)-1, got
    done=ecr.complete_layer_upload(repositoryName=R,uploadId=u["uploadId"],layerDigests=[digest(data)])
    assert done["layerDigest"]==digest(data), done
    return {"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","digest":digest(data),"size":len(data)}
def archive(files, pad=0):
    b=io.BytesIO()
    with tarfile.open(fileobj=b,mode="w") as t:
        for name,text in files.items():
            i=tarfile.TarInfo(name); i.size=len(text); t.addfile(i,io.BytesIO(text))
        if pad: i=tarfile.TarInfo("random"); i.size=pad; t.addfile(i,io.BytesIO(os.urandom(pad)))
    return b.getvalue()
system=archive({"etc/os-release":b"ID=alpine\nVERSION_ID=3.19.1\n","lib/apk/db/installed":b"P:libcrypto3\nV:3.1.4-r5\nA:x86_64\no:openssl\n\nP:musl\nV:1.2.4-r2\nA:x86_64\n\n"})
big=archive({},pad=6<<20)
layers=[layer(system),layer(big)]
config=b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
c=layer(config); c["mediaType"]="application/vnd.docker.container.image.v1+json"
M="application/vnd.docker.distribution.manifest.v2+json"
manifest=lambda **more: json.dumps({"schemaVersion":2,"mediaType":M,"config":c,"layers":layers,**more})
u,most=(ecr.initiate_layer_upload(repositoryName=R)[k] for k in ("uploadId","partSize"))
e=fails("InvalidLayerPartException","",ecr.upload_layer_part,repositoryName=R,uploadId=u,partFirstByte=7,partLastByte=9,layerPartBlob=b"abc")
assert e["uploadId"]==u and e["repositoryName"]==R, e
fails("EmptyUploadException","does not have any parts",ecr.complete_layer_upload,repositoryName=R,uploadId=u,layerDigests=[digest(b"")])
# a part as large as the API allows
assert most==20<<20 and ecr.upload_layer_part(repositoryName=R,uploadId=u,partFirstByte=0,partLastByte=most-1,layerPartBlob=bytes(most))["lastByteReceived"]==most-1
fails("LayersNotFoundException","do not exist",ecr.put_image,repositoryName=R,imageManifest=manifest(layers=[{**layers[0],"digest":"sha256:"+"0"*64}]))
put=ecr.put_image(repositoryName=R,imageManifest=manifest(),imageTag="v1")["image"]
D=put["imageId"]["imageDigest"]; assert D==digest(manifest().encode())
fails("ImageAlreadyExistsException",f"Image with digest '{D}' and tag 'v1' already exists",ecr.put_image,repositoryName=R,imageManifest=manifest(),imageTag="v1")
got=ecr.batch_get_image(repositoryName=R,imageIds=[{"imageTag":"v1"},{"imageTag":"none"}])
assert got["images"][0]["imageManifest"]==manifest() and got["failures"][0]["failureCode"]=="ImageNotFound", got
assert [l["layerAvailability"] for l in ecr.batch_check_layer_availability(repositoryName=R,layerDigests=[digest(big),"sha256:"+"0"*64])["layers"]]==["AVAILABLE","UNAVAILABLE"]
url=ecr.get_download_url_for_layer(repositoryName=R,layerDigest=digest(big))["downloadUrl"]
url=ep+url[url.index("/v2/"):] # names below localhost do not resolve on every machine
assert urllib.request.urlopen(url).read()==big

# as docker does
auth=ecr.get_authorization_token()["authorizationData"][0]
assert base64.b64decode(auth["authorizationToken"]).startswith(b"AWS:") and auth["proxyEndpoint"].startswith("http")
def get(path):
    q=urllib.request.Request(f"{ep}/v2/{path}",headers={"Authorization":"Basic "+auth["authorizationToken"],"Accept":M})
    return urllib.request.urlopen(q).read()
assert get(f"{R}/manifests/v1")==manifest().encode() and get(f"{R}/blobs/{digest(system)}")==system
try: urllib.request.urlopen(f"{ep}/v2/{R}/manifests/v1"); raise AssertionError("served to anybody")
except urllib.error.HTTPError as x: assert x.code==401, x

# the scan of the push
ecr.get_waiter("image_scan_complete").wait(repositoryName=R,imageId={"imageTag":"v1"},WaiterConfig={"Delay":1,"MaxAttempts":60})
f=ecr.describe_image_scan_findings(repositoryName=R,imageId={"imageTag":"v1"})
assert f["imageScanStatus"]=={"status":"COMPLETE","description":"The scan found 2 packages."}, f
assert [(x["name"],x["severity"]) for x in f["imageScanFindings"]["findings"]]==[("CVE-2026-1","HIGH")], f
d=ecr.describe_images(repositoryName=R)["imageDetails"][0]
assert d["imageTags"]==["v1"] and d["imageSizeInBytes"]==len(system)+len(big)+len(config) and d["imageScanFindingsSummary"]["findingSeverityCounts"]=={"HIGH":1}, d
assert "lastRecordedPullTime" in d, d
ecr.start_image_scan(repositoryName=R,imageId={"imageTag":"v1"})
ecr.get_waiter("image_scan_complete").wait(repositoryName=R,imageId={"imageTag":"v1"},WaiterConfig={"Delay":1,"MaxAttempts":60})
fails("LimitExceededException","The scan quota per image has been exceeded",ecr.start_image_scan,repositoryName=R,imageId={"imageTag":"v1"})

# who may do what
iam=boto3.client("iam",endpoint_url=ep,region_name="us-east-1")
iam.create_user(UserName="reader")
iam.attach_user_policy(UserName="reader",PolicyArn="arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly")
k=iam.create_access_key(UserName="reader")["AccessKey"]
reader=boto3.client("ecr",endpoint_url=ep,region_name="us-east-1",aws_access_key_id=k["AccessKeyId"],aws_secret_access_key=k["SecretAccessKey"])
assert reader.batch_get_image(repositoryName=R,imageIds=[{"imageTag":"v1"}])["images"]
fails("AccessDeniedException",f"is not authorized to perform: ecr:PutImage on resource: {r['repositoryArn']}",reader.put_image,repositoryName=R,imageManifest=manifest(),imageTag="v2")
fails("AccessDeniedException","ecr:CreateRepository",reader.create_repository,repositoryName="x1")
token=reader.get_authorization_token()["authorizationData"][0]["authorizationToken"]
def push(token):
    q=urllib.request.Request(f"{ep}/v2/{R}/blobs/uploads/",method="POST",data=b"",headers={"Authorization":"Basic "+token})
    try: return urllib.request.urlopen(q).status
    except urllib.error.HTTPError as x: return x.code
assert (push(token),push(auth["authorizationToken"]))==(403,202)

# copies, lifecycle
ecr.put_replication_configuration(replicationConfiguration={"rules":[{"destinations":[{"region":"eu-west-1","registryId":r["registryId"]}],"repositoryFilters":[{"filter":"team","filterType":"PREFIX_MATCH"}]}]})
for i in range(3): ecr.put_image(repositoryName=R,imageManifest=manifest(annotations={"n":str(i)}),imageTag=f"dev-{i}")
while True:
    s=ecr.describe_image_replication_status(repositoryName=R,imageId={"imageTag":"dev-2"})["replicationStatuses"]
    if s[0]["status"]!="IN_PROGRESS": break
assert s==[{"region":"eu-west-1","registryId":r["registryId"],"status":"COMPLETE"}], s
assert "dev-2" in [x.get("imageTag") for x in client("eu-west-1").list_images(repositoryName=R)["imageIds"]]
policy=json.dumps({"rules":[{"rulePriority":1,"description":"one development image","selection":{"tagStatus":"tagged","tagPrefixList":["dev-"],"countType":"imageCountMoreThan","countNumber":1},"action":{"type":"expire"}}]})
fails("InvalidParameterException","Must specify tagPrefixList or tagPatternList when tagStatus=TAGGED.",ecr.put_lifecycle_policy,repositoryName=R,lifecyclePolicyText=policy.replace('"tagPrefixList": ["dev-"], ',''))
assert ecr.start_lifecycle_policy_preview(repositoryName=R,lifecyclePolicyText=policy)["status"]=="IN_PROGRESS"
ecr.get_waiter("lifecycle_policy_preview_complete").wait(repositoryName=R,WaiterConfig={"Delay":1,"MaxAttempts":60})
p=ecr.get_lifecycle_policy_preview(repositoryName=R)
assert [x["imageTags"][0] for x in p["previewResults"]]==["dev-0","dev-1"] and p["summary"]["expiringImageTotalCount"]==2, p
ecr.put_lifecycle_policy(repositoryName=R,lifecyclePolicyText=policy)
assert ecr.get_lifecycle_policy(repositoryName=R)["lifecyclePolicyText"]==policy
end=time.time()+60
while True:
    tags=sorted(x["imageTag"] for x in ecr.list_images(repositoryName=R)["imageIds"])
    if tags==["dev-2","v1"]: break
    assert time.time()<end, tags

# deletion
gone=ecr.batch_delete_image(repositoryName=R,imageIds=[{"imageTag":"dev-2"},{"imageTag":"none"}])
assert len(gone["imageIds"])==1 and gone["failures"][0]["failureCode"]=="ImageNotFound", gone
fails("RepositoryNotEmptyException","still contains images",ecr.delete_repository,repositoryName=R)
ecr.delete_repository(repositoryName=R,force=True)
fails("RepositoryNotFoundException","",ecr.list_images,repositoryName=R)
print("done")
