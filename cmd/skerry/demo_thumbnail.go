package main

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // the thumbnail's format
	"io"
	"os/exec"
	"strings"

	"skerry/examples/thumbnail"
	"skerry/internal/api/iam"
	"skerry/internal/api/lambda"
	"skerry/internal/api/logs"
	"skerry/internal/api/s3"
	"skerry/internal/api/sts"
	"skerry/internal/base/awserr"
	"skerry/internal/base/ids"
)

// demoThumbnail is examples/thumbnail: a picture is put into a bucket, a Python
// function makes its thumbnail.
func demoThumbnail(ctx context.Context, sh *show) (kept string, err error) {
	suffix := strings.ToLower(ids.Alnum(8))
	d := &thumbnailDemo{
		show: sh, suffix: suffix, pictures: "pictures-" + suffix, thumbnails: "thumbnails-" + suffix, function: "thumbnail-" + suffix,
	}
	return fmt.Sprintf("%s, %s, the function and role %s", d.pictures, d.thumbnails, d.function), d.run(ctx)
}

// thumbnailDemo is one run of examples/thumbnail.
type thumbnailDemo struct {
	*show
	suffix, pictures, thumbnails, function string
	role, arn                              string
}

func (d *thumbnailDemo) run(ctx context.Context) error {
	picture := islet()
	return d.steps([]step{
		{"two buckets", func() (string, error) { return d.buckets(ctx) }},
		{"a role that may read the one, write the other, and write its log", func() (string, error) { return d.makeRole(ctx) }},
		{"the function: handler.py, unmodified AWS code with boto3 and Pillow", func() (string, error) { return d.makeFunction(ctx) }},
		{"the bucket may invoke it, and does so for every new picture", func() (string, error) { return d.subscribe(ctx) }},
		{"a picture", func() (string, error) { return d.upload(ctx, picture) }},
		{"its thumbnail", func() (string, error) { return d.thumbnail(ctx) }},
		{"the function's log", func() (string, error) { return d.log(ctx) }},
	})
}

func (d *thumbnailDemo) buckets(ctx context.Context) (string, error) {
	for _, b := range []string{d.pictures, d.thumbnails} {
		in := &s3.CreateBucketInput{Bucket: &b}
		if d.region != "us-east-1" {
			in.CreateBucketConfiguration = &s3.CreateBucketConfiguration{LocationConstraint: &d.region}
		}
		if _, err := call[s3.CreateBucketOutput](ctx, d.client, s3.Schema, "CreateBucket", in); err != nil {
			return "", err
		}
		d.undo(func(ctx context.Context) error {
			_, err := call[s3.DeleteBucketOutput](ctx, d.client, s3.Schema, "DeleteBucket", &s3.DeleteBucketInput{Bucket: &b})
			return err
		})
	}
	return d.pictures + ", " + d.thumbnails, nil
}

func (d *thumbnailDemo) makeRole(ctx context.Context) (string, error) {
	out, err := call[iam.CreateRoleOutput](ctx, d.client, iam.Schema, "CreateRole",
		&iam.CreateRoleInput{RoleName: &d.function, AssumeRolePolicyDocument: new(thumbnail.Trust)})
	if err != nil {
		return "", err
	}
	d.role = *out.Role.Arn
	d.undo(func(ctx context.Context) error {
		_, err := call[iam.DeleteRoleOutput](ctx, d.client, iam.Schema, "DeleteRole", &iam.DeleteRoleInput{RoleName: &d.function})
		return err
	})
	policy := strings.ReplaceAll(thumbnail.Policy, "SUFFIX", d.suffix)
	_, err = call[iam.PutRolePolicyOutput](ctx, d.client, iam.Schema, "PutRolePolicy",
		&iam.PutRolePolicyInput{RoleName: &d.function, PolicyName: new("thumbnail"), PolicyDocument: &policy})
	if err != nil {
		return "", err
	}
	d.undo(func(ctx context.Context) error {
		_, err := call[iam.DeleteRolePolicyOutput](ctx, d.client, iam.Schema, "DeleteRolePolicy",
			&iam.DeleteRolePolicyInput{RoleName: &d.function, PolicyName: new("thumbnail")})
		return err
	})
	return d.role, nil
}

func (d *thumbnailDemo) makeFunction(ctx context.Context) (string, error) {
	code, err := zipped("handler.py", thumbnail.Handler)
	if err != nil {
		return "", err
	}
	out, err := call[lambda.CreateFunctionOutput](ctx, d.client, lambda.Schema, "CreateFunction", &lambda.CreateFunctionInput{
		FunctionName: &d.function, Runtime: new(pythonRuntime(ctx)), Handler: new("handler.handler"), Role: &d.role,
		Code: &lambda.FunctionCode{ZipFile: code}, Timeout: new(int32(30)), MemorySize: new(int32(512)),
		Environment: &lambda.Environment{Variables: map[string]string{"THUMBNAIL_BUCKET": d.thumbnails}},
	})
	if err != nil {
		return "", err
	}
	d.arn = *out.FunctionArn
	d.undo(func(ctx context.Context) error {
		_, err := call[lambda.DeleteFunctionOutput](ctx, d.client, lambda.Schema, "DeleteFunction", &lambda.DeleteFunctionInput{FunctionName: &d.function})
		return err
	})
	return d.arn + " (" + *out.Runtime + ")", d.wait(ctx, func() (bool, error) {
		got, err := call[lambda.GetFunctionConfigurationOutput](ctx, d.client, lambda.Schema, "GetFunctionConfiguration",
			&lambda.GetFunctionConfigurationInput{FunctionName: &d.function})
		return err == nil && (got.State == nil || *got.State == lambda.StateActive), err
	})
}

func (d *thumbnailDemo) subscribe(ctx context.Context) (string, error) {
	who, err := call[sts.GetCallerIdentityOutput](ctx, d.client, sts.Schema, "GetCallerIdentity", &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", err
	}
	_, err = call[lambda.AddPermissionOutput](ctx, d.client, lambda.Schema, "AddPermission", &lambda.AddPermissionInput{
		FunctionName: &d.function, StatementId: new("pictures"), Action: new("lambda:InvokeFunction"),
		Principal: new("s3.amazonaws.com"), SourceArn: new("arn:aws:s3:::" + d.pictures), SourceAccount: who.Account,
	})
	if err != nil {
		return "", err
	}
	_, err = call[s3.PutBucketNotificationConfigurationOutput](ctx, d.client, s3.Schema, "PutBucketNotificationConfiguration",
		&s3.PutBucketNotificationConfigurationInput{
			Bucket: &d.pictures,
			NotificationConfiguration: &s3.NotificationConfiguration{LambdaFunctionConfigurations: []s3.LambdaFunctionConfiguration{
				{LambdaFunctionArn: &d.arn, Events: []string{"s3:ObjectCreated:*"}},
			}},
		})
	return "s3:ObjectCreated:* of " + d.pictures, err
}

func (d *thumbnailDemo) upload(ctx context.Context, picture []byte) (string, error) {
	_, err := call[s3.PutObjectOutput](ctx, d.client, s3.Schema, "PutObject", &s3.PutObjectInput{
		Bucket: &d.pictures, Key: new("islet.jpg"), Body: bytes.NewReader(picture), ContentType: new("image/jpeg"),
	})
	d.undo(d.forget(d.pictures))
	d.undo(d.forget(d.thumbnails))
	size, _, decodeErr := image.DecodeConfig(bytes.NewReader(picture))
	return fmt.Sprintf("s3://%s/islet.jpg, %dx%d, %d bytes", d.pictures, size.Width, size.Height, len(picture)), errors.Join(err, decodeErr)
}

// forget removes the picture from a bucket.
func (d *thumbnailDemo) forget(bucket string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := call[s3.DeleteObjectOutput](ctx, d.client, s3.Schema, "DeleteObject", &s3.DeleteObjectInput{Bucket: &bucket, Key: new("islet.jpg")})
		return err
	}
}

func (d *thumbnailDemo) thumbnail(ctx context.Context) (string, error) {
	var small []byte
	err := d.wait(ctx, func() (bool, error) {
		got, err := call[s3.GetObjectOutput](ctx, d.client, s3.Schema, "GetObject", &s3.GetObjectInput{Bucket: &d.thumbnails, Key: new("islet.jpg")})
		if awserr.Code(err) == "NoSuchKey" {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		defer got.Body.Close()
		small, err = io.ReadAll(got.Body)
		return true, err
	})
	if err != nil {
		log, logErr := d.events(ctx)
		return "", errors.Join(err, fmt.Errorf("the function's log:\n%s", log), logErr)
	}
	size, format, err := image.DecodeConfig(bytes.NewReader(small))
	return fmt.Sprintf("s3://%s/islet.jpg, %dx%d, %d bytes of %s", d.thumbnails, size.Width, size.Height, len(small), strings.ToUpper(format)), err
}

// log waits for the REPORT line, which is written when the invocation is over.
func (d *thumbnailDemo) log(ctx context.Context) (string, error) {
	var log string
	err := d.wait(ctx, func() (bool, error) {
		var err error
		log, err = d.events(ctx)
		return strings.Contains(log, "REPORT RequestId"), err
	})
	d.undo(func(ctx context.Context) error {
		_, err := call[logs.DeleteLogGroupOutput](ctx, d.client, logs.Schema, "DeleteLogGroup", &logs.DeleteLogGroupInput{LogGroupName: new("/aws/lambda/" + d.function)})
		return err
	})
	return log, err
}

func (d *thumbnailDemo) events(ctx context.Context) (string, error) {
	out, err := call[logs.FilterLogEventsOutput](ctx, d.client, logs.Schema, "FilterLogEvents",
		&logs.FilterLogEventsInput{LogGroupName: new("/aws/lambda/" + d.function)})
	if awserr.Code(err) == "ResourceNotFoundException" {
		return "", nil // nothing is logged yet
	}
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, e := range out.Events {
		fmt.Fprintf(&b, "   %s\n", strings.TrimRight(*e.Message, "\n"))
	}
	return b.String(), nil
}

// zipped returns an archive of one file.
func zipped(name string, content []byte) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	h := &zip.FileHeader{Name: name, Method: zip.Deflate}
	h.SetMode(0o644) // as anyone must be able to read it
	w, err := z.CreateHeader(h)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	err = z.Close() // which writes the directory
	return b.Bytes(), err
}

// pythonRuntime names the runtime of the machine's own Python, which is where
// Debian's Pillow is.
func pythonRuntime(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "/usr/bin/python3", "-c", "import sys; print('python%d.%d' % sys.version_info[:2])").Output()
	if err != nil {
		return "python3.13"
	}
	return strings.TrimSpace(string(out))
}
