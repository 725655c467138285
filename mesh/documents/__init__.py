"""The front end: text -> policies, every mistake at its place. It reads no file itself.

front_end   `front_end(sources)`: all of it, for a whole set
parser      texts -> documents with places (`SourceText`, `Document`, the bounds)
schema      a document against the JSON Schema of its kind; `rules` has what schemas cannot say
codec       document -> typed policy, canonical bytes, digest; stored bytes -> policy, YAML
references  what a policy names, for a manifest
linker      the whole set: references, duplicates, conflicts

Nothing is imported here: a sidecar needs `codec` only, and YAML and JSON Schema are 12 MB of
memory and 0.2 s of start.
"""
