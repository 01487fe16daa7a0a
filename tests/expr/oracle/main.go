// The judge of dflow_hpc/expr: evaluates the inputs of tests/expr/data/*.json with Argo's own Go packages and writes
// what they give beside them. Only facts leave this program: inputs and results.
//
// How to run it, after inputs were added (Go >= 1.24, and the Go module proxy):
//
//	mkdir /tmp/oracle && cp tests/expr/oracle/main.go /tmp/oracle/ && cd /tmp/oracle && go mod init oracle
//	go get github.com/argoproj/argo-workflows/v3@v3.7.4 github.com/Knetic/govaluate@9aa49832a739 && go mod tidy
//	TZ=UTC go run . <checkout>/tests/expr/data
//
// Each file holds {"kind": ..., "environment": ..., "cases": [...]}; what a case needs depends on the kind.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/Knetic/govaluate"
	"github.com/expr-lang/expr"

	"github.com/argoproj/argo-workflows/v3/util/expr/env"
	"github.com/argoproj/argo-workflows/v3/util/humanize"
	"github.com/argoproj/argo-workflows/v3/util/strftime"
	"github.com/argoproj/argo-workflows/v3/util/template"
)

type object = map[string]interface{}

// shown describes a value: its Go type and, where it has one, its JSON; else what %v prints.
func shown(value interface{}) object {
	out := object{"type": fmt.Sprintf("%T", value)}
	if data, err := json.Marshal(value); err == nil {
		out["json"] = string(data)
	} else {
		out["print"] = fmt.Sprintf("%v", value)
		out["no_json"] = err.Error()
	}
	return out
}

func guarded(run func() (object, error)) (out object) {
	defer func() {
		if r := recover(); r != nil {
			out = object{"error": fmt.Sprintf("%v", r)}
		}
	}()
	result, err := run()
	if err != nil {
		return object{"error": err.Error()}
	}
	return result
}

// lang compiles and runs an expression as Argo does; with "functions" the environment has sprig and its companions.
func lang(environment object, withFunctions bool, text string) (object, error) {
	variables := object{}
	for name, value := range environment {
		variables[name] = value
	}
	if withFunctions {
		variables = env.GetFuncMap(variables)
	}
	program, err := expr.Compile(text, expr.Env(variables))
	if err != nil {
		return nil, err
	}
	result, err := expr.Run(program, variables)
	if err != nil {
		return nil, err
	}
	return shown(result), nil
}

// when does what the controller does with a when: variables become strings.
func when(text string) (object, error) {
	if text == "" {
		return object{"result": true}, nil
	}
	expression, err := govaluate.NewEvaluableExpression(text)
	if err != nil {
		hint := ""
		if strings.Contains(err.Error(), "Invalid token") {
			hint = ` (hint: try wrapping the affected expression in quotes ("))`
		}
		return nil, fmt.Errorf("Invalid 'when' expression '%s': %v%s", text, err, hint)
	}
	tokens := expression.Tokens()
	for i := range tokens {
		if tokens[i].Kind == govaluate.VARIABLE {
			tokens[i].Kind = govaluate.STRING
		}
	}
	expression, err = govaluate.NewEvaluableExpressionFromTokens(tokens)
	if err != nil {
		return nil, fmt.Errorf("Failed to parse 'when' expression '%s': %v", text, err)
	}
	result, err := expression.Evaluate(nil)
	if err != nil {
		return nil, fmt.Errorf("Failed to evaluate 'when' expresion '%s': %v", text, err)
	}
	truth, ok := result.(bool)
	if !ok {
		return nil, fmt.Errorf("Expected boolean evaluation for '%s'. Got %v", text, result)
	}
	return object{"result": truth}, nil
}

func tags(text string, scope object, strict bool) (object, error) {
	flat := map[string]string{}
	for name, value := range scope {
		flat[name] = value.(string)
	}
	result, err := template.Replace(text, flat, !strict)
	if err != nil {
		return nil, err
	}
	return object{"result": result}, nil
}

func regex(c object) (object, error) {
	compiled, err := regexp.Compile(c["pattern"].(string))
	if err != nil {
		return nil, err
	}
	text := c["text"].(string)
	out := object{"match": compiled.MatchString(text), "all": compiled.FindAllString(text, -1), "split": compiled.Split(text, -1)}
	if replacement, ok := c["replacement"].(string); ok {
		out["replaced"] = compiled.ReplaceAllString(text, replacement)
	}
	return out, nil
}

func single(c object) (object, error) {
	text, _ := c["text"].(string)
	switch c["what"] {
	case "quote":
		return object{"result": strconv.Quote(text)}, nil
	case "atoi":
		number, err := strconv.Atoi(text)
		return object{"result": number}, err
	case "parse_float":
		number, err := strconv.ParseFloat(text, 64)
		return object{"result": fmt.Sprintf("%v", number)}, err
	case "parse_duration":
		duration, err := time.ParseDuration(text)
		return object{"result": duration.Nanoseconds(), "text": text, "printed": duration.String()}, err
	case "humanize":
		duration, err := time.ParseDuration(text)
		return object{"result": humanize.Duration(duration)}, err
	case "json_error":
		var value interface{}
		return object{"result": "valid"}, json.Unmarshal([]byte(text), &value)
	case "print_json": // a JSON value by %v and by json.Marshal
		var value interface{}
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			return nil, err
		}
		data, err := json.Marshal(value)
		return object{"printed": fmt.Sprintf("%v", value), "json": string(data)}, err
	case "time_parse":
		parsed, err := time.Parse(c["layout"].(string), text)
		return object{"result": parsed.Format(time.RFC3339Nano)}, err
	case "time_format":
		parsed, err := time.Parse(time.RFC3339Nano, text)
		return object{"result": parsed.Format(c["layout"].(string))}, err
	case "strftime":
		parsed, err := time.Parse(time.RFC3339Nano, text)
		return object{"result": strftime.Format(c["layout"].(string), parsed)}, err
	case "sprintf":
		var value interface{} = c["value"]
		if number, ok := value.(float64); ok && c["integer"] == true {
			value = int(number)
		}
		return object{"result": fmt.Sprintf(text, value)}, nil
	}
	return nil, fmt.Errorf("unknown: %v", c["what"])
}

func evaluate(kind string, environment object, c object) object {
	return guarded(func() (object, error) {
		text, _ := c["text"].(string)
		switch kind {
		case "lang", "functions":
			return lang(environment, kind == "functions", text)
		case "when":
			return when(text)
		case "tags":
			scope, ok := c["scope"].(object)
			if !ok {
				scope = environment
			}
			return tags(text, scope, c["strict"] == true)
		case "regexp":
			return regex(c)
		default:
			return single(c)
		}
	})
}

// oneLine writes without escaping < and >, so that the tables can be read.
func oneLine(value interface{}) string {
	buffer := &bytes.Buffer{}
	encoder := json.NewEncoder(buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(err)
	}
	return strings.TrimSpace(buffer.String())
}

func main() {
	files, err := filepath.Glob(filepath.Join(os.Args[1], "*.json"))
	if err != nil {
		panic(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			panic(err)
		}
		var table struct {
			Kind        string   `json:"kind"`
			Environment object   `json:"environment"`
			Cases       []object `json:"cases"`
		}
		if err := json.Unmarshal(data, &table); err != nil {
			panic(fmt.Errorf("%s: %w", file, err))
		}
		out := &bytes.Buffer{}
		fmt.Fprintf(out, "{\"kind\": %q,\n\"environment\": %s,\n\"cases\": [\n", table.Kind, oneLine(table.Environment))
		for i, c := range table.Cases {
			delete(c, "gives")
			c["gives"] = evaluate(table.Kind, table.Environment, c)
			comma := ","
			if i == len(table.Cases)-1 {
				comma = ""
			}
			fmt.Fprintf(out, "%s%s\n", oneLine(c), comma)
		}
		fmt.Fprint(out, "]}\n")
		if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
			panic(err)
		}
		fmt.Println(filepath.Base(file), len(table.Cases))
	}
}
