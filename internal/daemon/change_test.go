package daemon

import (
	"encoding/json"
	"testing"

	"github.com/moby/moby/api/types/container"
)

func TestChanges(t *testing.T) {
	c := &container.Config{Env: []string{"OLD=one"}}
	err := applyChanges(c, []string{
		`CMD ["run", "it"]`, `entrypoint exec /x`, `ENV A="x y" B=z\ w 'C=1 2'`, `ENV OLD some words`, `LABEL l="1"`, `EXPOSE 80 53/udp`, `VOLUME ["/v"]`, `USER app`, `WORKDIR /w`, `STOPSIGNAL SIGUSR1`,
		`ONBUILD RUN x`, `HEALTHCHECK --interval=3s --retries=2 CMD wget -q localhost`,
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(c)
	want := `"User":"app","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"ExposedPorts":{"53/udp":{},"80/tcp":{}},"Tty":false,"OpenStdin":false,"StdinOnce":false,` +
		`"Env":["A=x y","B=z w","C=1 2","OLD=some words"],"Cmd":["run","it"],"Healthcheck":{"Test":["CMD-SHELL","wget -q localhost"],"Interval":3000000000,"Retries":2},"Image":"","Volumes":{"/v":{}},"WorkingDir":"/w","Entrypoint":["/bin/sh","-c","exec /x"],"OnBuild":["RUN x"],"Labels":{"l":"1"},"StopSignal":"SIGUSR1"}`
	if err != nil || string(got[len(got)-len(want):]) != want {
		t.Errorf("%s, %v, want ...%s", got, err, want)
	}
	for _, line := range []string{"", "CMD", "RUN x", `ENV A="x`, "ENV A=b C", "LABEL =x", "EXPOSE x", "STOPSIGNAL SIGNOT", `ENV A=\`, "HEALTHCHECK x", "HEALTHCHECK CMD", "HEALTHCHECK --much=1 NONE", "HEALTHCHECK --interval=x NONE"} {
		if err := applyChanges(&container.Config{}, []string{line}); err == nil {
			t.Errorf("%q is no change", line)
		}
	}
}
