"""A walk through IAM and STS with boto3: every kind of resource is made, read back,
changed, refused where AWS refuses, and taken down again. Its arguments are the
files of a certificate, its key, another key and an SSH public key."""
import base64, csv, hashlib, hmac, io, json, os, struct, sys, time
import boto3
from botocore.exceptions import ClientError
ep=os.environ.get("AWS_ENDPOINT_URL")
def client(svc, **kw): return boto3.client(svc, endpoint_url=ep, region_name="us-east-1", **kw)
iam, sts = client("iam"), client("sts")
acct = sts.get_caller_identity()["Account"]
def fails(code, text, fn, **kw):
    try: fn(**kw)
    except ClientError as e:
        err=e.response["Error"]
        assert err["Code"]==code and text in err["Message"], (fn, err)
        return
    raise AssertionError(f"{fn} with {kw} succeeded, want {code}")
allow=lambda a,r="*": json.dumps({"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":a,"Resource":r}]})
trust=lambda p: json.dumps({"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":p,"Action":["sts:AssumeRole","sts:TagSession"]}]})
T=[{"Key":"team","Value":"sea"}]

# users
u=iam.create_user(UserName="Anna",Path="/staff/",Tags=T)["User"]
assert u["Arn"]==f"arn:aws:iam::{acct}:user/staff/Anna" and u["UserId"].startswith("AIDA") and len(u["UserId"])==21 and u["Tags"]==T, u
fails("EntityAlreadyExists","User with name anna already exists.",iam.create_user,UserName="anna")
fails("NoSuchEntity","The user with name nobody cannot be found.",iam.get_user,UserName="nobody")
got=iam.get_user(UserName="Anna")["User"]; assert got["CreateDate"]==u["CreateDate"]
assert [x["UserName"] for x in iam.list_users(PathPrefix="/staff/")["Users"]]==["Anna"]
assert iam.list_users(PathPrefix="/none/")["Users"]==[]
iam.tag_user(UserName="Anna",Tags=[{"Key":"Team","Value":"land"},{"Key":"b","Value":""}])
assert iam.list_user_tags(UserName="Anna")["Tags"]==[{"Key":"Team","Value":"land"},{"Key":"b","Value":""}]
iam.untag_user(UserName="Anna",TagKeys=["b"])
for i in range(7): iam.create_user(UserName=f"u{i}")
p=iam.get_paginator("list_users").paginate(PaginationConfig={"PageSize":3})
assert [x["UserName"] for pg in p for x in pg["Users"]]==["Anna"]+[f"u{i}" for i in range(7)]
iam.update_user(UserName="u6",NewUserName="u9",NewPath="/x/")
assert iam.get_user(UserName="u9")["User"]["Path"]=="/x/"
fails("EntityAlreadyExists","User with name u0 already exists.",iam.update_user,UserName="u9",NewUserName="u0")
fails("ValidationError","The specified value for userName is invalid.",iam.create_user,UserName="bad name!")
# keys
k=iam.create_access_key(UserName="Anna")["AccessKey"]
assert k["AccessKeyId"].startswith("AKIA") and len(k["SecretAccessKey"])==40 and k["Status"]=="Active"
iam.create_access_key(UserName="Anna")
fails("LimitExceeded","Cannot exceed quota for AccessKeysPerUser: 2",iam.create_access_key,UserName="Anna")
assert len(iam.list_access_keys(UserName="Anna")["AccessKeyMetadata"])==2
anna=dict(aws_access_key_id=k["AccessKeyId"],aws_secret_access_key=k["SecretAccessKey"])
me=client("sts",**anna).get_caller_identity(); assert me["Arn"]==u["Arn"] and me["UserId"]==u["UserId"]
fails("AccessDenied",f"User: {u['Arn']} is not authorized to perform: iam:ListUsers on resource: arn:aws:iam::{acct}:user/ because",client("iam",**anna).list_users)
lu=iam.get_access_key_last_used(AccessKeyId=k["AccessKeyId"]); assert lu["UserName"]=="Anna" and lu["AccessKeyLastUsed"]["ServiceName"]=="iam", lu
# inline and managed policies
iam.put_user_policy(UserName="Anna",PolicyName="p1",PolicyDocument=allow("iam:List*"))
client("iam",**anna).list_users()
doc=iam.get_user_policy(UserName="Anna",PolicyName="p1")["PolicyDocument"]; assert doc["Statement"][0]["Action"]=="iam:List*"
assert iam.list_user_policies(UserName="Anna")["PolicyNames"]==["p1"]
fails("MalformedPolicyDocument","Syntax errors in policy",iam.put_user_policy,UserName="Anna",PolicyName="p",PolicyDocument="{")
fails("MalformedPolicyDocument","principal",iam.put_user_policy,UserName="Anna",PolicyName="p",PolicyDocument=trust({"AWS":"*"}))
fails("LimitExceeded","Maximum policy size of 2048 bytes exceeded for user Anna",iam.put_user_policy,UserName="Anna",PolicyName="big",PolicyDocument=allow(["s3:"+"x"*120]*20))
fails("NoSuchEntity","The user policy with name none cannot be found.",iam.get_user_policy,UserName="Anna",PolicyName="none")
pol=iam.create_policy(PolicyName="edge",PolicyDocument=allow("s3:*"),Description="d",Tags=T)["Policy"]
assert pol["AttachmentCount"]==0 and pol["DefaultVersionId"]=="v1" and pol["PolicyId"].startswith("ANPA"), pol
fails("EntityAlreadyExists","A policy called edge already exists. Duplicate names are not allowed.",iam.create_policy,PolicyName="edge",PolicyDocument=allow("s3:*"))
fails("LimitExceeded","Cannot exceed quota for PolicySize: 6144",iam.create_policy,PolicyName="x",PolicyDocument=allow(["s3:"+"x"*120]*60))
for i in range(2,6): iam.create_policy_version(PolicyArn=pol["Arn"],PolicyDocument=allow(f"s3:A{i}"),SetAsDefault=(i==3))
fails("LimitExceeded","A managed policy can have up to 5 versions.",iam.create_policy_version,PolicyArn=pol["Arn"],PolicyDocument=allow("s3:*"))
fails("DeleteConflict","Cannot delete the default version of a policy.",iam.delete_policy_version,PolicyArn=pol["Arn"],VersionId="v3")
assert iam.get_policy(PolicyArn=pol["Arn"])["Policy"]["DefaultVersionId"]=="v3"
assert iam.get_policy_version(PolicyArn=pol["Arn"],VersionId="v3")["PolicyVersion"]["Document"]["Statement"][0]["Action"]=="s3:A3"
vs=iam.list_policy_versions(PolicyArn=pol["Arn"])["Versions"]; assert [v["VersionId"] for v in vs]==["v5","v4","v3","v2","v1"], vs
iam.set_default_policy_version(PolicyArn=pol["Arn"],VersionId="v1")
iam.attach_user_policy(UserName="Anna",PolicyArn=pol["Arn"])
fails("NoSuchEntity",f"Policy arn:aws:iam::{acct}:policy/none does not exist or is not attachable.",iam.attach_user_policy,UserName="Anna",PolicyArn=f"arn:aws:iam::{acct}:policy/none")
fails("DeleteConflict","Cannot delete a policy attached to entities.",iam.delete_policy,PolicyArn=pol["Arn"])
assert iam.get_policy(PolicyArn=pol["Arn"])["Policy"]["AttachmentCount"]==1
assert iam.list_attached_user_policies(UserName="Anna")["AttachedPolicies"]==[{"PolicyName":"edge","PolicyArn":pol["Arn"]}]
assert [x["UserName"] for x in iam.list_entities_for_policy(PolicyArn=pol["Arn"])["PolicyUsers"]]==["Anna"]
assert "AWSLambdaBasicExecutionRole" in [x["PolicyName"] for pg in iam.get_paginator("list_policies").paginate(Scope="AWS",PaginationConfig={"PageSize":10}) for x in pg["Policies"]]
assert [x["PolicyName"] for x in iam.list_policies(OnlyAttached=True)["Policies"]]==["edge"]
assert [x["PolicyName"] for x in iam.list_policies(Scope="Local")["Policies"]]==["edge"]
# groups
g=iam.create_group(GroupName="crew")["Group"]; assert g["GroupId"].startswith("AGPA")
iam.add_user_to_group(GroupName="crew",UserName="Anna")
assert [x["UserName"] for x in iam.get_group(GroupName="crew")["Users"]]==["Anna"]
assert [x["GroupName"] for x in iam.list_groups_for_user(UserName="Anna")["Groups"]]==["crew"]
iam.attach_group_policy(GroupName="crew",PolicyArn="arn:aws:iam::aws:policy/IAMReadOnlyAccess")
client("iam",**anna).get_user(UserName="u0")
iam.update_group(GroupName="crew",NewGroupName="Team")
assert [x["UserName"] for x in iam.get_group(GroupName="team")["Users"]]==["Anna"]
fails("DeleteConflict","Cannot delete entity, must remove users from group first.",iam.delete_group,GroupName="Team")
# roles
r=iam.create_role(RoleName="worker",Path="/jobs/",AssumeRolePolicyDocument=trust({"Service":"lambda.amazonaws.com"}),Description="x",Tags=T)["Role"]
assert r["RoleId"].startswith("AROA") and r["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]=={"Service":"lambda.amazonaws.com"}
fails("MalformedPolicyDocument","Has prohibited field Resource",iam.create_role,RoleName="w",AssumeRolePolicyDocument=allow("sts:AssumeRole"))
fails("MalformedPolicyDocument",'Invalid principal in policy: "AWS":"arn:aws:iam::%s:user/ghost"'%acct,iam.create_role,RoleName="w",AssumeRolePolicyDocument=trust({"AWS":f"arn:aws:iam::{acct}:user/ghost"}))
fails("EntityAlreadyExists","Role with name Worker already exists.",iam.create_role,RoleName="Worker",AssumeRolePolicyDocument=trust({"Service":"lambda.amazonaws.com"}))
g=iam.get_role(RoleName="worker")["Role"]; assert g["MaxSessionDuration"]==3600 and g["RoleLastUsed"]=={}, g
iam.update_role(RoleName="worker",Description="y",MaxSessionDuration=7200)
assert iam.update_role_description(RoleName="worker",Description="z")["Role"]["MaxSessionDuration"]==7200
iam.put_role_policy(RoleName="worker",PolicyName="in",PolicyDocument=allow("logs:*"))
iam.attach_role_policy(RoleName="worker",PolicyArn="arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole")
iam.attach_role_policy(RoleName="worker",PolicyArn="arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole")
iam.put_role_permissions_boundary(RoleName="worker",PermissionsBoundary=pol["Arn"])
assert iam.get_role(RoleName="worker")["Role"]["PermissionsBoundary"]["PermissionsBoundaryArn"]==pol["Arn"]
assert iam.get_policy(PolicyArn=pol["Arn"])["Policy"]["PermissionsBoundaryUsageCount"]==1
iam.delete_role_permissions_boundary(RoleName="worker")
iam.update_assume_role_policy(RoleName="worker",PolicyDocument=trust({"AWS":u["Arn"]}))
ip=iam.create_instance_profile(InstanceProfileName="ip")["InstanceProfile"]; assert ip["Roles"]==[]
iam.add_role_to_instance_profile(InstanceProfileName="ip",RoleName="worker")
fails("LimitExceeded","Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1",iam.add_role_to_instance_profile,InstanceProfileName="ip",RoleName="worker")
assert iam.get_instance_profile(InstanceProfileName="ip")["InstanceProfile"]["Roles"][0]["RoleName"]=="worker"
assert [x["InstanceProfileName"] for x in iam.list_instance_profiles_for_role(RoleName="worker")["InstanceProfiles"]]==["ip"]
fails("DeleteConflict","Cannot delete entity, must remove roles from instance profile first.",iam.delete_role,RoleName="worker")
iam.get_waiter("role_exists").wait(RoleName="worker"); iam.get_waiter("user_exists").wait(UserName="Anna"); iam.get_waiter("policy_exists").wait(PolicyArn=pol["Arn"]); iam.get_waiter("instance_profile_exists").wait(InstanceProfileName="ip")
# sts
a=client("sts",**anna).assume_role(RoleArn=r["Arn"],RoleSessionName="sess",Tags=[{"Key":"k","Value":"v"}])
c=a["Credentials"]; sess=dict(aws_access_key_id=c["AccessKeyId"],aws_secret_access_key=c["SecretAccessKey"],aws_session_token=c["SessionToken"])
who=client("sts",**sess).get_caller_identity(); assert who["Arn"]==f"arn:aws:sts::{acct}:assumed-role/worker/sess", who
fails("AccessDenied","is not authorized to perform: iam:ListRoles",client("iam",**sess).list_roles)
bad=dict(sess,aws_session_token="x"+c["SessionToken"][1:])
fails("InvalidClientTokenId","",client("sts",**bad).get_caller_identity)
lu=iam.get_role(RoleName="worker")["Role"]["RoleLastUsed"]; assert lu["Region"]=="us-east-1", lu
assert sts.get_access_key_info(AccessKeyId=c["AccessKeyId"])["Account"]==acct
t=client("sts",**anna).get_session_token()["Credentials"]
tok=dict(aws_access_key_id=t["AccessKeyId"],aws_secret_access_key=t["SecretAccessKey"],aws_session_token=t["SessionToken"])
assert client("sts",**tok).get_caller_identity()["Arn"]==u["Arn"]
fails("InvalidClientTokenId","",client("iam",**tok).list_users)
# passwords
fails("PasswordPolicyViolation","minimum length of 8",iam.create_login_profile,UserName="Anna",Password="Ab1")
iam.create_login_profile(UserName="Anna",Password="Str0ng-enough",PasswordResetRequired=True)
assert iam.get_login_profile(UserName="Anna")["LoginProfile"]["PasswordResetRequired"] is True
iam.put_user_policy(UserName="Anna",PolicyName="p2",PolicyDocument=allow("iam:ChangePassword"))
fails("AccessDenied","",client("iam",**anna).change_password,OldPassword="wrong-One1",NewPassword="An0ther-one")
client("iam",**anna).change_password(OldPassword="Str0ng-enough",NewPassword="An0ther-one")
fails("NoSuchEntity",f"The Password Policy with domain name {acct} cannot be found.",iam.get_account_password_policy)
iam.update_account_password_policy(MinimumPasswordLength=12,RequireSymbols=True,PasswordReusePrevention=2,MaxPasswordAge=90)
pp=iam.get_account_password_policy()["PasswordPolicy"]; assert pp["ExpirePasswords"] is True and pp["MinimumPasswordLength"]==12, pp
fails("PasswordPolicyViolation","",iam.update_login_profile,UserName="Anna",Password="An0ther-one")
# MFA
d=iam.create_virtual_mfa_device(VirtualMFADeviceName="phone")["VirtualMFADevice"]
assert d["QRCodePNG"][:8]==b"\x89PNG\r\n\x1a\n", d["QRCodePNG"][:8]
seed=base64.b32decode(d["Base32StringSeed"])
def code(step):
    h=hmac.new(seed,struct.pack(">q",step),hashlib.sha1).digest(); o=h[-1]&15
    return "%06d"%((struct.unpack(">I",h[o:o+4])[0]&0x7fffffff)%1000000)
now=int(time.time()//30)
fails("InvalidAuthenticationCode","",iam.enable_mfa_device,UserName="Anna",SerialNumber=d["SerialNumber"],AuthenticationCode1=code(now+50),AuthenticationCode2=code(now+51))
iam.enable_mfa_device(UserName="Anna",SerialNumber=d["SerialNumber"],AuthenticationCode1=code(now-1),AuthenticationCode2=code(now))
assert [x["SerialNumber"] for x in iam.list_mfa_devices(UserName="Anna")["MFADevices"]]==[d["SerialNumber"]]
assert iam.list_virtual_mfa_devices(AssignmentStatus="Assigned")["VirtualMFADevices"][0]["User"]["UserName"]=="Anna"
fails("AccessDenied","MultiFactorAuthentication failed",client("sts",**anna).get_session_token,SerialNumber=d["SerialNumber"],TokenCode=code(now))
t=client("sts",**anna).get_session_token(SerialNumber=d["SerialNumber"],TokenCode=code(now+1))["Credentials"]
client("iam",aws_access_key_id=t["AccessKeyId"],aws_secret_access_key=t["SecretAccessKey"],aws_session_token=t["SessionToken"]).list_users()
# account
iam.create_account_alias(AccountAlias="skerry-dev"); assert iam.list_account_aliases()["AccountAliases"]==["skerry-dev"]
fails("ValidationError","accountAlias",iam.create_account_alias,AccountAlias="a--b")
s=iam.get_account_summary()["SummaryMap"]; assert s["Users"]==8 and s["Groups"]==1 and s["Roles"]==1 and s["Policies"]==1 and s["MFADevicesInUse"]==1 and s["AccessKeysPerUserQuota"]==2, s
st=iam.generate_credential_report()["State"]; assert st=="STARTED"; assert iam.generate_credential_report()["State"]=="COMPLETE"
rep=iam.get_credential_report(); rows=list(csv.DictReader(io.StringIO(rep["Content"].decode())))
an=[x for x in rows if x["user"]=="Anna"][0]; assert an["mfa_active"]=="true" and an["access_key_1_active"]=="true" and an["password_enabled"]=="true" and an["access_key_1_last_used_service"]=="sts", an
det=iam.get_account_authorization_details(); assert [x["UserName"] for x in det["UserDetailList"]][0]=="Anna" and det["RoleDetailList"][0]["RolePolicyList"][0]["PolicyDocument"]["Statement"], det
# simulators
e=iam.simulate_custom_policy(PolicyInputList=[allow("s3:GetObject","arn:aws:s3:::a/*"),json.dumps({"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"s3:*","Resource":"*","Condition":{"StringEquals":{"aws:RequestTag/Env":"prod"}}}})],ActionNames=["s3:GetObject","s3:PutObject"],ResourceArns=["arn:aws:s3:::a/x"])["EvaluationResults"]
assert [x["EvalDecision"] for x in e]==["allowed","implicitDeny"] and e[0]["MatchedStatements"][0]["SourcePolicyId"]=="PolicyInputList.1" and e[0]["MissingContextValues"]==["aws:RequestTag/Env"], e
e=iam.simulate_custom_policy(PolicyInputList=[allow("s3:*"),json.dumps({"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"s3:*","Resource":"*","Condition":{"StringEquals":{"aws:RequestTag/Env":"prod"}}}})],ActionNames=["s3:GetObject"],ContextEntries=[{"ContextKeyName":"aws:RequestTag/Env","ContextKeyValues":["prod"],"ContextKeyType":"string"}])["EvaluationResults"]
assert e[0]["EvalDecision"]=="explicitDeny" and e[0]["MatchedStatements"][0]["SourcePolicyId"]=="PolicyInputList.2", e
e=iam.simulate_principal_policy(PolicySourceArn=u["Arn"],ActionNames=["s3:GetObject","iam:GetUser","ec2:RunInstances"])["EvaluationResults"]
assert [x["EvalDecision"] for x in e]==["allowed","allowed","implicitDeny"] and e[0]["MatchedStatements"][0]["SourcePolicyType"]=="user-managed" and e[1]["MatchedStatements"][0]["SourcePolicyType"]=="aws-managed", e
e=iam.simulate_custom_policy(PolicyInputList=[allow("s3:*")],PermissionsBoundaryPolicyInputList=[allow("s3:Get*")],ActionNames=["s3:GetObject","s3:PutObject"])["EvaluationResults"]
assert [(x["EvalDecision"],x["PermissionsBoundaryDecisionDetail"]["AllowedByPermissionsBoundary"]) for x in e]==[("allowed",True),("implicitDeny",False)], e
assert iam.get_context_keys_for_custom_policy(PolicyInputList=[json.dumps({"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::b/${aws:username}/*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}})])["ContextKeyNames"]==["aws:SourceIp","aws:username"]
gs=iam.list_policies_granting_service_access(Arn=u["Arn"],ServiceNamespaces=["s3","ec2"])["PoliciesGrantingServiceAccess"]
assert [p["PolicyName"] for p in gs[0]["Policies"]]==["edge"] and gs[1]["Policies"]==[], gs
# providers
o=iam.create_open_id_connect_provider(Url="https://id.example.com/x",ClientIDList=["a"],ThumbprintList=["0"*40],Tags=T)["OpenIDConnectProviderArn"]
assert o==f"arn:aws:iam::{acct}:oidc-provider/id.example.com/x"
iam.add_client_id_to_open_id_connect_provider(OpenIDConnectProviderArn=o,ClientID="b")
x=iam.get_open_id_connect_provider(OpenIDConnectProviderArn=o); assert x["ClientIDList"]==["a","b"] and x["Url"]=="id.example.com/x", x
fails("EntityAlreadyExists","Provider with url https://id.example.com/x already exists.",iam.create_open_id_connect_provider,Url="https://id.example.com/x",ThumbprintList=["0"*40])
iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=o)
fails("NoSuchEntity","OpenIDConnect Provider not found for arn",iam.get_open_id_connect_provider,OpenIDConnectProviderArn=o)
# service-linked roles
sl=iam.create_service_linked_role(AWSServiceName="elasticloadbalancing.amazonaws.com")["Role"]; assert sl["RoleName"]=="AWSServiceRoleForElasticLoadBalancing"
fails("InvalidInput","has been taken in this account",iam.create_service_linked_role,AWSServiceName="elasticloadbalancing.amazonaws.com")
fails("UnmodifiableEntity","is only modifiable by AWS",iam.delete_role,RoleName=sl["RoleName"])
task=iam.delete_service_linked_role(RoleName=sl["RoleName"])["DeletionTaskId"]
assert iam.get_service_linked_role_deletion_status(DeletionTaskId=task)["Status"]=="SUCCEEDED"
# certificates and SSH keys
if len(sys.argv)>1:
    crt,key,other,ssh=[open(f).read() for f in sys.argv[1:5]]
    sc=iam.upload_server_certificate(ServerCertificateName="web",CertificateBody=crt,PrivateKey=key)["ServerCertificateMetadata"]; assert sc["ServerCertificateId"].startswith("ASCA")
    fails("KeyPairMismatch","",iam.upload_server_certificate,ServerCertificateName="w2",CertificateBody=crt,PrivateKey=other)
    fails("MalformedCertificate","",iam.upload_server_certificate,ServerCertificateName="w2",CertificateBody="x",PrivateKey=key)
    iam.update_server_certificate(ServerCertificateName="web",NewServerCertificateName="www"); assert iam.get_server_certificate(ServerCertificateName="www")["ServerCertificate"]["CertificateBody"].strip()==crt.strip()
    iam.delete_server_certificate(ServerCertificateName="www")
    kk=iam.upload_ssh_public_key(UserName="Anna",SSHPublicKeyBody=ssh)["SSHPublicKey"]; assert len(kk["Fingerprint"])==47, kk
    pem=iam.get_ssh_public_key(UserName="Anna",SSHPublicKeyId=kk["SSHPublicKeyId"],Encoding="PEM")["SSHPublicKey"]["SSHPublicKeyBody"]; assert "BEGIN PUBLIC KEY" in pem
    fails("DuplicateSSHPublicKey","",iam.upload_ssh_public_key,UserName="Anna",SSHPublicKeyBody=ssh)
    iam.delete_ssh_public_key(UserName="Anna",SSHPublicKeyId=kk["SSHPublicKeyId"])
    sg=iam.upload_signing_certificate(UserName="Anna",CertificateBody=crt)["Certificate"]; iam.update_signing_certificate(UserName="Anna",CertificateId=sg["CertificateId"],Status="Inactive")
    assert iam.list_signing_certificates(UserName="Anna")["Certificates"][0]["Status"]=="Inactive"; iam.delete_signing_certificate(UserName="Anna",CertificateId=sg["CertificateId"])
# the way down: every conflict in turn, then all is gone
def gone(): return iam.delete_user(UserName="Anna")
for text,fn,kw in [("must detach all policies first",iam.detach_user_policy,dict(UserName="Anna",PolicyArn=pol["Arn"])),("must delete policies first",iam.delete_user_policy,dict(UserName="Anna",PolicyName="p1")),("must delete policies first",iam.delete_user_policy,dict(UserName="Anna",PolicyName="p2")),("must remove users from group first",iam.remove_user_from_group,dict(UserName="Anna",GroupName="Team"))]:
    fails("DeleteConflict",text,gone); fn(**kw)
for m in iam.list_access_keys(UserName="Anna")["AccessKeyMetadata"]: fails("DeleteConflict","must delete access keys first",gone); iam.delete_access_key(UserName="Anna",AccessKeyId=m["AccessKeyId"])
fails("DeleteConflict","must delete login profile first",gone); iam.delete_login_profile(UserName="Anna")
fails("DeleteConflict","must delete MFA device first",gone); iam.deactivate_mfa_device(UserName="Anna",SerialNumber=d["SerialNumber"])
gone(); iam.delete_virtual_mfa_device(SerialNumber=d["SerialNumber"])
fails("InvalidClientTokenId","The security token included in the request is invalid",client("sts",**anna).get_caller_identity)
fails("InvalidClientTokenId","The security token included in the request is invalid",client("sts",**tok).get_caller_identity)
fails("DeleteConflict","This policy has more than one version.",iam.delete_policy,PolicyArn=pol["Arn"])
for v in ["v2","v3","v4","v5"]: iam.delete_policy_version(PolicyArn=pol["Arn"],VersionId=v)
iam.delete_policy(PolicyArn=pol["Arn"]); fails("NoSuchEntity",f"Policy {pol['Arn']} was not found.",iam.get_policy,PolicyArn=pol["Arn"])
print("ok")
