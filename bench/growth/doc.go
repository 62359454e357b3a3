// Package growth keeps what a grid's components take as what they hold grows: the points that were measured, and the tables, plots and
// memory budgets that docs/performance.md shows of them.
//
//	Point -> Merge with those of earlier runs -> GROWTH.json -> Section between two markers of docs/performance.md
//	                                                         -> Plot: docs/growth/*.svg
//
// Invariants: tables and plots are functions of the points alone, so both can be made again without measuring; a point that is not measured
// again stays as it was, with its own version, date and machine. It knows no servers, so all of it is tested without any.
package growth
