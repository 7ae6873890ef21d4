"""Makes a thumbnail of every picture that arrives in a bucket.

This is code for AWS Lambda as it stands: nothing in it knows where it runs.
"""

import io
import os
from urllib.parse import unquote_plus

import boto3
from PIL import Image

s3 = boto3.client("s3")

THUMBNAILS = os.environ["THUMBNAIL_BUCKET"]
SIZE = int(os.environ.get("THUMBNAIL_SIZE", "128"))


def handler(event, context):
    made = []
    for record in event["Records"]:
        bucket = record["s3"]["bucket"]["name"]
        # Keys come as in a form: a space is a plus sign.
        key = unquote_plus(record["s3"]["object"]["key"])

        picture = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        with Image.open(io.BytesIO(picture)) as image:
            before = image.size
            image.thumbnail((SIZE, SIZE))
            small = io.BytesIO()
            image.convert("RGB").save(small, "JPEG", quality=85)
            after = image.size

        s3.put_object(
            Bucket=THUMBNAILS,
            Key=key,
            Body=small.getvalue(),
            ContentType="image/jpeg",
        )
        print(f"{bucket}/{key}: {before[0]}x{before[1]} to {after[0]}x{after[1]}, {len(small.getvalue())} bytes")
        made.append(key)
    return {"made": made}
