// Package vector finds the vectors of one shard replica that are nearest to a query by cosine: a hierarchical navigable
// small world graph (Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical
// Navigable Small World graphs", 2016) over fixed-point codes of the vectors.
//
//	rows (truth) ── changes ── Apply ── codes + graph ── Search ── candidates ── re-scored from the rows ── results
//	                                         │
//	                                    Save, Load: one file, complete to an applied index
//
// Invariants:
//   - The index is derived. Its rows decide what a result scores; replicas may hold different graphs over the same rows.
//   - A search that begins after Apply returned finds no id that Apply removed, and no id twice. During an update of an id
//     a search finds it with its old or its new place.
//   - Links are undirected, and those of layer 0 contain a spanning tree: from every vector a path leads to every other.
//   - A slot is given to another vector only after every search that could have seen it has ended.
//   - The graph is a function of Options and the calls of Apply alone, however many goroutines worked on it.
//   - A damaged file is an error that names file and offset, never another index.
//
// It must not import net, the engine or a client, or read a clock. It starts goroutines only inside Apply and awaits them there.
package vector
