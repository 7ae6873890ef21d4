package task

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// The log drivers.
const (
	driverAWSLogs  = "awslogs"
	driverJSONFile = "json-file"
)

// defaultBuffer is max-buffer-size when nothing is said.
const defaultBuffer = 10 << 20

// logOptions are a container's log configuration, read.
type logOptions struct {
	start    *regexp.Regexp // of the first line of an event; nil: a line is an event
	blocking bool
	buffer   int64 // bytes that wait for a sink that does not take them, unless blocking
	files    int   // of json-file
	size     int64
}

// LogStream is where a container's output goes with awslogs.
type LogStream struct {
	Region, Group, Name string
	CreateGroup         bool
}

// newLogOptions reads a log configuration. Names and values are those of the
// Docker drivers of these names and of ECS ("LogConfiguration").
func newLogOptions(l Log) (o logOptions, err error) {
	switch l.Driver {
	case "":
		if len(l.Options) > 0 {
			return o, invalid("log options without a driver")
		}
		return o, nil
	case driverAWSLogs:
		return awslogsOptions(l.Options)
	case driverJSONFile:
		return jsonFileOptions(l.Options)
	}
	return o, unsupported("log driver %s", l.Driver)
}

func awslogsOptions(options map[string]string) (o logOptions, err error) {
	o.buffer = defaultBuffer
	for name, value := range options {
		switch name {
		case "awslogs-group", "awslogs-region", "awslogs-stream-prefix":
		case "awslogs-create-group":
			_, err = strconv.ParseBool(value)
		case "awslogs-datetime-format":
			o.start, err = regexp.Compile(datetimePattern(value))
		case "awslogs-multiline-pattern":
			o.start, err = regexp.Compile(value)
		case "mode":
			if o.blocking = value == "blocking"; !o.blocking && value != "non-blocking" {
				err = fmt.Errorf("it is blocking or non-blocking")
			}
		case "max-buffer-size":
			o.buffer, err = parseSize(value)
		default:
			return o, invalid("unknown log opt '%s' for %s log driver", name, driverAWSLogs)
		}
		if err != nil {
			return o, invalid("must specify valid value for log opt '%s': %v", name, err)
		}
	}
	if options["awslogs-group"] == "" {
		return o, invalid("must specify a value for log opt 'awslogs-group'")
	}
	if options["awslogs-datetime-format"] != "" && options["awslogs-multiline-pattern"] != "" {
		return o, invalid("you cannot configure log opt 'awslogs-datetime-format' and 'awslogs-multiline-pattern' at the same time")
	}
	if o.blocking && options["max-buffer-size"] != "" {
		return o, invalid("max-buffer-size option is only supported with 'mode=non-blocking'")
	}
	return o, nil
}

func jsonFileOptions(options map[string]string) (o logOptions, err error) {
	for name, value := range options {
		switch name {
		case "max-size":
			o.size, err = parseSize(value)
		case "max-file":
			if o.files, err = strconv.Atoi(value); err == nil && o.files < 1 {
				err = fmt.Errorf("max-file cannot be less than 1")
			}
		default:
			return o, invalid("unknown log opt '%s' for %s log driver", name, driverJSONFile)
		}
		if err != nil {
			return o, invalid("must specify valid value for log opt '%s': %v", name, err)
		}
	}
	if o.files > 1 && o.size == 0 {
		return o, invalid("max-file needs max-size")
	}
	if o.size > 0 && o.files == 0 {
		o.files = 1
	}
	return o, nil
}

// parseSize reads a size as Docker's options have it: "10m", "512kb", "1000".
func parseSize(text string) (int64, error) {
	s := strings.TrimSuffix(strings.ToLower(text), "b")
	shift := 0
	if n := len(s) - 1; n >= 0 {
		if i := strings.IndexByte("kmg", s[n]); i >= 0 {
			s, shift = s[:n], 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("invalid size: '%s'", text)
	}
	return n << shift, nil
}

// streamOf says where a container's output goes.
func streamOf(t *Task, c *Container) LogStream {
	o := c.Log.Options
	s := LogStream{Region: o["awslogs-region"], Group: o["awslogs-group"], Name: string(containerID(t.ID, c.Name))}
	if s.Region == "" {
		s.Region = t.Region
	}
	if prefix := o["awslogs-stream-prefix"]; prefix != "" {
		s.Name = prefix + "/" + c.Name + "/" + string(t.ID)
	}
	s.CreateGroup, _ = strconv.ParseBool(o["awslogs-create-group"])
	return s
}

// datetimePattern makes a pattern of a date format in the manner of strftime, as
// awslogs-datetime-format has it.
func datetimePattern(format string) string {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i]) // the rest is a pattern already
			continue
		}
		i++
		if p, ok := datetimeParts[format[i]]; ok {
			b.WriteString(p)
		}
	}
	return b.String()
}

var datetimeParts = map[byte]string{
	'a': `(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)`,
	'A': `(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)`,
	'w': `[0-6]`,
	'd': `(?:0[1-9]|[12]\d|3[01])`,
	'b': `(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)`,
	'B': `(?:January|February|March|April|May|June|July|August|September|October|November|December)`,
	'm': `(?:0[1-9]|1[0-2])`,
	'Y': `\d{4}`,
	'y': `\d{2}`,
	'H': `(?:[01]\d|2[0-3])`,
	'I': `(?:0\d|1[0-2])`,
	'p': `[AP]M`,
	'M': `[0-5]\d`,
	'S': `[0-5]\d`,
	'L': `\.\d{3}`,
	'f': `\d{6}`,
	'z': `[+-]\d{4}`,
	'Z': `[A-Z]{1,4}T`,
	'j': `(?:0\d[1-9]|[12]\d\d|3[0-5]\d|36[0-6])`,
}
