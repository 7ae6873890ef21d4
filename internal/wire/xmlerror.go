package wire

// s3Error writes an error as S3 does, without a wrapper.
func (f *failure) s3Error(requestID string) []byte {
	x := xmlWriter{b: append(make([]byte, 0, 512), xmlHead...), millis: true}
	x.open("Error", "")
	x.simple("Code", f.code)
	x.simple("Message", f.message)
	f.members(&x)
	x.simple("RequestId", requestID)
	x.simple("HostId", hostID(requestID))
	x.close("Error")
	return x.b
}

// wrappedError writes an error as awsQuery and restXml do.
func (f *failure) wrappedError(c *Call, requestID string) []byte {
	x := xmlWriter{b: make([]byte, 0, 512), query: c.Protocol == AWSQuery}
	namespace := ""
	if c.Service != nil {
		namespace = c.Service.XMLNamespace
	}
	x.open("ErrorResponse", namespace)
	x.open("Error", "")
	x.simple("Type", senderOrReceiver(f))
	x.simple("Code", f.code)
	x.simple("Message", f.message)
	f.members(&x)
	x.close("Error")
	x.simple("RequestId", requestID)
	x.close("ErrorResponse")
	return x.b
}

// ec2Error writes an error as EC2 does.
func (f *failure) ec2Error(requestID string) []byte {
	x := xmlWriter{b: append(make([]byte, 0, 512), xmlHead...)}
	x.open("Response", "")
	x.open("Errors", "")
	x.open("Error", "")
	x.simple("Code", f.code)
	x.simple("Message", f.message)
	f.members(&x)
	x.close("Error")
	x.close("Errors")
	x.simple("RequestID", requestID)
	x.close("Response")
	return x.b
}

// members writes what a modelled error has besides its message, and the further
// elements of others.
func (f *failure) members(x *xmlWriter) {
	if f.plan != nil {
		for _, m := range f.plan.body {
			v, ok := present(f.value.Field(m.index))
			if !ok || m.member.Name == "message" || m.member.Name == "Message" {
				continue
			}
			x.element(m, x.name(m), v, nil)
		}
	}
	for _, d := range f.detail {
		x.simple(d.Name, d.Value)
	}
}
