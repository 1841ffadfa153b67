// Says of each object in a JSON list on standard input what Flux and `helm --wait` would: its status and the reason, by the
// library that both of them use.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func main() {
	verdicts, err := judge()
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(verdicts)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func judge() ([]verdict, error) {
	var raw []json.RawMessage
	if err := json.NewDecoder(os.Stdin).Decode(&raw); err != nil {
		return nil, err
	}
	verdicts := make([]verdict, 0, len(raw))
	for _, text := range raw {
		// Its own decoder reads whole numbers as int64, as the API machinery does; encoding/json would make floats of them.
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(text); err != nil {
			return nil, err
		}
		result, err := status.Compute(object)
		if err != nil {
			return nil, err
		}
		verdicts = append(verdicts, verdict{string(result.Status), result.Message})
	}
	return verdicts, nil
}
