"""A round of S3 with boto3, from what it accepts to what it refuses. Its argument is the
endpoint; it prints what failed and exits with 1 if anything did."""
import boto3, sys, json, traceback, hashlib, io
from botocore.config import Config
from botocore.exceptions import ClientError
ep = sys.argv[1]

def cl(**kw):
    return boto3.client('s3', endpoint_url=ep, region_name='us-east-1', aws_access_key_id='test', aws_secret_access_key='test', config=Config(retries={'max_attempts': 1}, s3={'addressing_style': 'path'}, **kw))
c = cl()
ok = bad = 0


def t(f):
    global ok, bad
    try:
        f()
        ok += 1
    except Exception as e:
        bad += 1
        print('FAIL', f.__name__)
        traceback.print_exc(limit=3)

def err(code, status, f, **kw):
    try:
        f(**kw)
    except ClientError as e:
        assert e.response['Error']['Code'] == code, (e.response, code)
        assert e.response['ResponseMetadata']['HTTPStatusCode'] == status, e.response
        return e
    assert False, 'no error ' + code
B = 'bkt'



@t
def create():
    c.create_bucket(Bucket=B)
    c.head_bucket(Bucket=B)
    assert c.get_bucket_location(Bucket=B)['LocationConstraint'] is None
    assert [b['Name'] for b in c.list_buckets()['Buckets']] == [B]
    err('404', 404, c.head_bucket, Bucket='nope')
    err('NoSuchBucket', 404, c.list_objects_v2, Bucket='nope')



@t
def put():
    r = c.put_object(Bucket=B, Key='a b/ü+%&=?#;~.txt', Body=b'hello', ContentType='text/plain', Metadata={'Foo': 'bar'}, Tagging='a=1&b=2')
    g = c.get_object(Bucket=B, Key='a b/ü+%&=?#;~.txt')
    assert g['Body'].read() == b'hello'
    assert g['Metadata'] == {'foo': 'bar'}, g['Metadata']
    assert g['TagCount'] == 2
    assert g['ContentType'] == 'text/plain'
    h = c.head_object(Bucket=B, Key='a b/ü+%&=?#;~.txt')
    assert h['ContentLength'] == 5
    assert h['ETag'] == '"5d41402abc4b2a76b9719d911017c592"'
    assert c.list_objects_v2(Bucket=B)['Contents'][0]['Key'] == 'a b/ü+%&=?#;~.txt'
    g = c.get_object(Bucket=B, Key='a b/ü+%&=?#;~.txt', Range='bytes=1-3')
    assert g['Body'].read() == b'ell'
    assert g['ResponseMetadata']['HTTPStatusCode'] == 206, g
    assert g['ContentRange'] == 'bytes 1-3/5'
    err('NoSuchKey', 404, c.get_object, Bucket=B, Key='nope')
    err('404', 404, c.head_object, Bucket=B, Key='nope')
    err('304', 304, c.get_object, Bucket=B, Key='a b/ü+%&=?#;~.txt', IfNoneMatch=h['ETag'])
    err('InvalidRange', 416, c.get_object, Bucket=B, Key='a b/ü+%&=?#;~.txt', Range='bytes=10-')
    g = c.get_object(Bucket=B, Key='a b/ü+%&=?#;~.txt', ResponseContentType='x/y', ResponseContentDisposition='attachment')
    assert g['ContentType'] == 'x/y'



@t
def big():
    body = b'x' * (20 << 20)
    c.upload_fileobj(io.BytesIO(body), B, 'big')
    h = c.head_object(Bucket=B, Key='big')
    f = io.BytesIO()
    c.download_fileobj(B, 'big', f)
    assert f.getvalue() == body
    g = c.get_object(Bucket=B, Key='big', PartNumber=2)
    assert g['PartsCount'] == 3
    assert len(g['Body'].read()) == 8 << 20
    a = c.get_object_attributes(Bucket=B, Key='big', ObjectAttributes=['ETag', 'Checksum', 'ObjectParts', 'StorageClass', 'ObjectSize'])
    c.copy_object(Bucket=B, Key='big2', CopySource={'Bucket': B, 'Key': 'big'})
    assert c.get_object(Bucket=B, Key='big2')['Body'].read() == body
    c.copy({'Bucket': B, 'Key': 'big'}, B, 'big3')



@t
def sums():
    for a in ['CRC32', 'SHA1', 'SHA256']:
        r = c.put_object(Bucket=B, Key=a, Body=b'abc', ChecksumAlgorithm=a)
        h = c.head_object(Bucket=B, Key=a, ChecksumMode='ENABLED')
        assert h['Checksum' + a] == r['Checksum' + a]
        c.get_object(Bucket=B, Key=a, ChecksumMode='ENABLED')['Body'].read()



@t
def multi():
    for alg in ['CRC32', 'SHA256', None]:
        kw = {} if alg is None else dict(ChecksumAlgorithm=alg)
        u = c.create_multipart_upload(Bucket=B, Key='m', **kw)['UploadId']
        ps = []
        for i, b in enumerate([b'a' * (5 << 20), b'b' * 100], 1):
            kw = {} if alg is None else dict(ChecksumAlgorithm=alg)
            r = c.upload_part(Bucket=B, Key='m', UploadId=u, PartNumber=i, Body=b, **kw)
            p = {'PartNumber': i, 'ETag': r['ETag']}
            if alg:
                p['Checksum' + alg] = r['Checksum' + alg]
            ps.append(p)
        lp = c.list_parts(Bucket=B, Key='m', UploadId=u)
        assert len(lp['Parts']) == 2
        assert c.list_multipart_uploads(Bucket=B)['Uploads'][0]['UploadId'] == u
        r = c.complete_multipart_upload(Bucket=B, Key='m', UploadId=u, MultipartUpload={'Parts': ps})
        assert r['ETag'].endswith('-2"')
        g = c.get_object(Bucket=B, Key='m', ChecksumMode='ENABLED')
        assert len(g['Body'].read()) == (5 << 20) + 100
    u = c.create_multipart_upload(Bucket=B, Key='m')['UploadId']
    e = c.upload_part(Bucket=B, Key='m', UploadId=u, PartNumber=1, Body=b'x')['ETag']
    e2 = c.upload_part(Bucket=B, Key='m', UploadId=u, PartNumber=2, Body=b'x')['ETag']
    err('EntityTooSmall', 400, c.complete_multipart_upload, Bucket=B, Key='m', UploadId=u, MultipartUpload={'Parts': [{'PartNumber': 1, 'ETag': e}, {'PartNumber': 2, 'ETag': e2}]})
    err('InvalidPartOrder', 400, c.complete_multipart_upload, Bucket=B, Key='m', UploadId=u, MultipartUpload={'Parts': [{'PartNumber': 2, 'ETag': e}, {'PartNumber': 1, 'ETag': e2}]})
    c.abort_multipart_upload(Bucket=B, Key='m', UploadId=u)
    err('NoSuchUpload', 404, c.list_parts, Bucket=B, Key='m', UploadId=u)



@t
def lists():
    c.create_bucket(Bucket='lst')
    for k in ['a', 'b/1', 'b/2', 'c/d/e', 'z', 'ü x']:
        c.put_object(Bucket='lst', Key=k, Body=b'')
    r = c.list_objects_v2(Bucket='lst', Delimiter='/')
    assert [x['Prefix'] for x in r['CommonPrefixes']] == ['b/', 'c/'], r
    assert [x['Key'] for x in r['Contents']] == ['a', 'z', 'ü x'], r
    keys = []
    for p in c.get_paginator('list_objects_v2').paginate(Bucket='lst', PaginationConfig={'PageSize': 1}):
        keys += [x['Key'] for x in p.get('Contents', [])]
    assert keys == ['a', 'b/1', 'b/2', 'c/d/e', 'z', 'ü x']
    ks = []
    for p in c.get_paginator('list_objects').paginate(Bucket='lst', Delimiter='/', PaginationConfig={'PageSize': 1}):
        ks += [x['Key'] for x in p.get('Contents', [])] + [x['Prefix'] for x in p.get('CommonPrefixes', [])]
    assert ks == ['a', 'b/', 'c/', 'z', 'ü x'], ks
    r = c.list_objects(Bucket='lst', Prefix='b/', MaxKeys=1)
    assert r['IsTruncated']
    r = c.list_object_versions(Bucket='lst', Prefix='b')
    assert [v['VersionId'] for v in r['Versions']] == ['null', 'null']



@t
def delete():
    r = c.delete_objects(Bucket='lst', Delete={'Objects': [{'Key': k} for k in ['a', 'b/1', 'nope']]})
    assert len(r['Deleted']) == 3, r
    r = c.delete_objects(Bucket='lst', Delete={'Quiet': True, 'Objects': [{'Key': k} for k in ['b/2']]})
    assert 'Deleted' not in r
    err('BucketNotEmpty', 409, c.delete_bucket, Bucket='lst')
    for k in ['c/d/e', 'z', 'ü x']:
        c.delete_object(Bucket='lst', Key=k)
    c.delete_bucket(Bucket='lst')



@t
def versions():
    V = 'ver'
    c.create_bucket(Bucket=V)
    c.put_bucket_versioning(Bucket=V, VersioningConfiguration={'Status': 'Enabled'})
    assert c.get_bucket_versioning(Bucket=V)['Status'] == 'Enabled'
    v1 = c.put_object(Bucket=V, Key='k', Body=b'1')['VersionId']
    v2 = c.put_object(Bucket=V, Key='k', Body=b'2')['VersionId']
    d = c.delete_object(Bucket=V, Key='k')
    assert d['DeleteMarker']
    e = err('NoSuchKey', 404, c.get_object, Bucket=V, Key='k')
    assert e.response['ResponseMetadata']['HTTPHeaders']['x-amz-delete-marker'] == 'true', e.response
    err('MethodNotAllowed', 405, c.get_object, Bucket=V, Key='k', VersionId=d['VersionId'])
    assert c.get_object(Bucket=V, Key='k', VersionId=v1)['Body'].read() == b'1'
    r = c.list_object_versions(Bucket=V)
    assert [x['VersionId'] for x in r['Versions']] == [v2, v1]
    assert r['DeleteMarkers'][0]['IsLatest']
    c.delete_object(Bucket=V, Key='k', VersionId=d['VersionId'])
    assert c.get_object(Bucket=V, Key='k')['Body'].read() == b'2'
    b = boto3.resource('s3', endpoint_url=ep, region_name='us-east-1', aws_access_key_id='test', aws_secret_access_key='test').Bucket(V)
    b.object_versions.delete()
    c.delete_bucket(Bucket=V)



@t
def configs():
    err('NoSuchBucketPolicy', 404, c.get_bucket_policy, Bucket=B)
    err('NoSuchTagSet', 404, c.get_bucket_tagging, Bucket=B)
    err('NoSuchCORSConfiguration', 404, c.get_bucket_cors, Bucket=B)
    err('NoSuchLifecycleConfiguration', 404, c.get_bucket_lifecycle_configuration, Bucket=B)
    err('NoSuchWebsiteConfiguration', 404, c.get_bucket_website, Bucket=B)
    c.put_bucket_tagging(Bucket=B, Tagging={'TagSet': [{'Key': 'a', 'Value': 'b'}]})
    assert c.get_bucket_tagging(Bucket=B)['TagSet'] == [{'Key': 'a', 'Value': 'b'}]
    assert c.get_bucket_encryption(Bucket=B)['ServerSideEncryptionConfiguration']['Rules'][0]['ApplyServerSideEncryptionByDefault']['SSEAlgorithm'] == 'AES256'
    assert all(c.get_public_access_block(Bucket=B)['PublicAccessBlockConfiguration'].values())
    assert c.get_bucket_ownership_controls(Bucket=B)['OwnershipControls']['Rules'][0]['ObjectOwnership'] == 'BucketOwnerEnforced'
    c.put_bucket_cors(Bucket=B, CORSConfiguration={'CORSRules': [{'AllowedMethods': ['GET', 'PUT'], 'AllowedOrigins': ['*'], 'AllowedHeaders': ['*'], 'ExposeHeaders': ['ETag'], 'MaxAgeSeconds': 10}]})
    assert c.get_bucket_cors(Bucket=B)['CORSRules'][0]['MaxAgeSeconds'] == 10
    c.put_bucket_lifecycle_configuration(Bucket=B, LifecycleConfiguration={'Rules': [{'ID': 'x', 'Status': 'Enabled', 'Filter': {'Prefix': 'tmp/'}, 'Expiration': {'Days': 1}}]})
    c.put_bucket_website(Bucket=B, WebsiteConfiguration={'IndexDocument': {'Suffix': 'index.html'}, 'ErrorDocument': {'Key': 'err.html'}, 'RoutingRules': [{'Condition': {'KeyPrefixEquals': 'old/'}, 'Redirect': {'ReplaceKeyPrefixWith': 'new/'}}]})
    assert c.get_bucket_website(Bucket=B)['RoutingRules'][0]['Redirect']['ReplaceKeyPrefixWith'] == 'new/'
    pol = json.dumps({'Version': '2012-10-17', 'Statement': [{'Effect': 'Allow', 'Principal': '*', 'Action': 's3:GetObject', 'Resource': 'arn:aws:s3:::bkt/*'}]})
    err('AccessDenied', 403, c.put_bucket_policy, Bucket=B, Policy=pol)
    c.delete_public_access_block(Bucket=B)
    c.put_bucket_policy(Bucket=B, Policy=pol)
    assert json.loads(c.get_bucket_policy(Bucket=B)['Policy']) == json.loads(pol)
    assert c.get_bucket_policy_status(Bucket=B)['PolicyStatus']['IsPublic']
    a = c.get_bucket_acl(Bucket=B)
    err('InvalidArgument', 400, c.put_bucket_notification_configuration, Bucket=B, NotificationConfiguration={'LambdaFunctionConfigurations': [{'LambdaFunctionArn': 'arn:aws:lambda:us-east-1:000000000000:function:no', 'Events': ['s3:ObjectCreated:*']}]})
    c.put_bucket_notification_configuration(Bucket=B, NotificationConfiguration={})
    for op in ['get_bucket_logging', 'get_bucket_accelerate_configuration', 'get_bucket_request_payment']:
        err('NotImplemented', 501, getattr(c, op), Bucket=B)
    err('MalformedPolicy', 400, c.put_bucket_policy, Bucket=B, Policy='{"a":1}')



@t
def presigned():
    import urllib.request
    for sv in ['s3', 's3v4']:
        x = cl(signature_version=sv)
        u = x.generate_presigned_url('get_object', Params={'Bucket': B, 'Key': 'CRC32'})
        assert urllib.request.urlopen(u).read() == b'abc'
        u = x.generate_presigned_url('put_object', Params={'Bucket': B, 'Key': 'pre'})
        r = urllib.request.Request(u, data=b'up', method='PUT', headers={'Content-Type': ''})
        urllib.request.urlopen(r)
        assert c.get_object(Bucket=B, Key='pre')['Body'].read() == b'up'
    u = ep + '/bkt/CRC32'
    assert urllib.request.urlopen(u).read() == b'abc'
    p = cl(signature_version='s3v4').generate_presigned_post(B, 'post/${filename}')
    bd = 'xxBOUNDxx'
    body = b''
    for k, v in p['fields'].items():
        body += f'--{bd}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode()
    body += f'--{bd}\r\nContent-Disposition: form-data; name="file"; filename="f.txt"\r\nContent-Type: text/plain\r\n\r\nposted\r\n--{bd}--\r\n'.encode()
    r = urllib.request.urlopen(urllib.request.Request(p['url'], data=body, headers={'Content-Type': 'multipart/form-data; boundary=' + bd}))
    assert c.get_object(Bucket=B, Key='post/f.txt')['Body'].read() == b'posted'



@t
def website():
    import urllib.request
    c.put_object(Bucket=B, Key='index.html', Body=b'<h1>', ContentType='text/html')
    c.put_object(Bucket=B, Key='err.html', Body=b'oops', ContentType='text/html')
    c.put_object(Bucket=B, Key='new/x', Body=b'new')
    host = ep.split('//')[1].split(':')

    def g(path, h='bkt.s3-website.localhost'):
        r = urllib.request.Request(ep + path, headers={'Host': h + ':' + host[1]})
        return urllib.request.urlopen(r).read()
    assert g('/') == b'<h1>'
    assert g('/old/x') == b'new'
    assert g('/_skerry/website/bkt/', h='127.0.0.1') == b'<h1>'
    assert g('/_skerry/website/bkt/old/x', h='127.0.0.1') == b'new'
    try:
        g('/nix')
        assert False
    except urllib.error.HTTPError as e:
        assert e.code in (403, 404), e



@t
def lock():
    import datetime
    L = 'lck'
    c.create_bucket(Bucket=L, ObjectLockEnabledForBucket=True)
    c.put_object_lock_configuration(Bucket=L, ObjectLockConfiguration={'ObjectLockEnabled': 'Enabled', 'Rule': {'DefaultRetention': {'Mode': 'GOVERNANCE', 'Days': 1}}})
    v = c.put_object(Bucket=L, Key='k', Body=b'x')['VersionId']
    err('AccessDenied', 403, c.delete_object, Bucket=L, Key='k', VersionId=v)
    c.put_object_legal_hold(Bucket=L, Key='k', LegalHold={'Status': 'ON'})
    err('AccessDenied', 403, c.delete_object, Bucket=L, Key='k', VersionId=v, BypassGovernanceRetention=True)
    c.put_object_legal_hold(Bucket=L, Key='k', LegalHold={'Status': 'OFF'})
    c.delete_object(Bucket=L, Key='k', VersionId=v, BypassGovernanceRetention=True)
    c.delete_bucket(Bucket=L)



@t
def ssec():
    k = b'k' * 32
    c2 = c
    c2.put_object(Bucket=B, Key='ssec', Body=b's' * 100000, SSECustomerAlgorithm='AES256', SSECustomerKey=k)
    err('InvalidRequest', 400, c2.get_object, Bucket=B, Key='ssec')
    assert len(c2.get_object(Bucket=B, Key='ssec', SSECustomerAlgorithm='AES256', SSECustomerKey=k)['Body'].read()) == 100000
print('ok', ok, 'bad', bad)
sys.exit(1 if bad else 0)
