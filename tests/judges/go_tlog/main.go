// An outside judge: what Go's own libraries (golang.org/x/mod/sumdb/note and tlog) say of our notes and proofs.
//
// It reads one JSON document with questions from standard input and writes one with answers. The note and tree
// logic is Go's; only the cosignature's message is put together here, from C2SP tlog-cosignature.
package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type questions struct {
	Open    []opening // which notes verify
	Sign    []signing // notes that Go signs
	Records []string  // entries of one log, base64
	Grow    [][2]int64
}

type opening struct {
	Note  string // base64
	Vkeys []string
}

type signing struct{ Text, Skey string }

type answers struct {
	Open   []string               // "" or why not
	Signed []string               // base64
	Roots  []tlog.Hash            // of the trees of 1, 2, … entries
	Paths  map[string][]tlog.Hash // "size/index" → inclusion path, "size<old" → consistency path
	Tiles  map[string][]string    // "old-new" → the paths of the tiles written
}

// cosigner verifies type 0x04 signatures, which this library does not know.
type cosigner struct {
	note.Verifier
	hash uint32
	key  ed25519.PublicKey
}

func (c cosigner) KeyHash() uint32 { return c.hash }

func (c cosigner) Verify(msg, sig []byte) bool {
	if len(sig) != 72 {
		return false
	}
	head := fmt.Sprintf("cosignature/v1\ntime %d\n", binary.BigEndian.Uint64(sig))
	return ed25519.Verify(c.key, append([]byte(head), msg...), sig[8:])
}

func verifier(vkey string) (note.Verifier, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) == 3 {
		raw, err := base64.StdEncoding.DecodeString(parts[2])
		if err == nil && len(raw) == 33 && raw[0] == 4 {
			plain, err := note.NewEd25519VerifierKey(parts[0], raw[1:])
			if err != nil {
				return nil, err
			}
			named, err := note.NewVerifier(plain)
			if err != nil {
				return nil, err
			}
			var hash uint32
			if _, err := fmt.Sscanf(parts[1], "%08x", &hash); err != nil {
				return nil, err
			}
			return cosigner{named, hash, raw[1:]}, nil
		}
	}
	return note.NewVerifier(vkey)
}

func open(question opening) error {
	var known []note.Verifier
	for _, vkey := range question.Vkeys {
		v, err := verifier(vkey)
		if err != nil {
			return err
		}
		known = append(known, v)
	}
	opened, err := note.Open(decode(question.Note), note.VerifierList(known...))
	if err == nil && len(opened.Sigs) != len(known) {
		return fmt.Errorf("%d of %d keys signed", len(opened.Sigs), len(known))
	}
	return err
}

func decode(text string) []byte {
	data, err := base64.StdEncoding.DecodeString(text)
	must(err)
	return data
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	var asked questions
	must(json.NewDecoder(os.Stdin).Decode(&asked))
	told := answers{Paths: map[string][]tlog.Hash{}, Tiles: map[string][]string{}}
	for _, question := range asked.Open {
		why := ""
		if err := open(question); err != nil {
			why = err.Error()
		}
		told.Open = append(told.Open, why)
	}
	for _, each := range asked.Sign {
		signer, err := note.NewSigner(each.Skey)
		must(err)
		signed, err := note.Sign(&note.Note{Text: each.Text}, signer)
		must(err)
		told.Signed = append(told.Signed, base64.StdEncoding.EncodeToString(signed))
	}
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			hashes[i] = stored[index]
		}
		return hashes, nil
	})
	for i, record := range asked.Records {
		hashes, err := tlog.StoredHashes(int64(i), decode(record), reader)
		must(err)
		stored = append(stored, hashes...)
		size := int64(i) + 1
		root, err := tlog.TreeHash(size, reader)
		must(err)
		told.Roots = append(told.Roots, root)
		for index := int64(0); index < size; index++ {
			inclusion, err := tlog.ProveRecord(size, index, reader)
			must(err)
			told.Paths[fmt.Sprintf("%d/%d", size, index)] = inclusion
			consistency, err := tlog.ProveTree(size, index+1, reader)
			must(err)
			told.Paths[fmt.Sprintf("%d<%d", index+1, size)] = consistency
		}
	}
	for _, sizes := range asked.Grow {
		paths := []string{}
		for _, tile := range tlog.NewTiles(8, sizes[0], sizes[1]) {
			paths = append(paths, strings.Replace(tile.Path(), "tile/8/", "tile/", 1))
		}
		told.Tiles[fmt.Sprintf("%d-%d", sizes[0], sizes[1])] = paths
	}
	must(json.NewEncoder(os.Stdout).Encode(told))
}
