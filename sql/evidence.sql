-- How often each drug was ordered by principal diagnosis, as far as it may be shown beside a draft.
--
-- Grain:  one row per ICD-10 category that may be shown and drug that was ordered in it
-- Key:    category, drug
-- Inputs: evidence_counts, settings
-- Known:  when training starts
-- Source: MIMIC-IV v3.1, hosp
--
-- A number is hidden that tells of fewer than 11 patients; with --open-data none is. A category of so few has no row.
-- `ordered` is NULL where those who had the drug are so few, or those who went without it: 118 of 120 tells of 2. Nothing
-- hidden can be had back from a sum: the categories sum to the training split, so the next smallest is left out with the
-- small ones, and a drug's counts sum to those of formulary.parquet, so its next smallest is hidden too.
--
-- A drug without a row in a category that has rows was never ordered there.

WITH categories AS (
    SELECT
        category,
        any_value(patients) AS patients
    FROM evidence_counts
    GROUP BY category
),

shown AS (
    SELECT categories.category
    FROM categories
    CROSS JOIN settings
    QUALIFY least(patients, lag(patients) OVER (ORDER BY patients, category)) >= settings.fewest_patients
),

cells AS (
    SELECT
        counts.category,
        counts.drug,
        counts.ordered,
        counts.admissions,
        counts.ordered_patients,
        shown.category IS NOT NULL AS category_shown,
        NOT category_shown
        OR counts.ordered_patients < settings.fewest_patients
        OR (counts.other_patients > 0 AND counts.other_patients < settings.fewest_patients) AS hidden
    FROM evidence_counts AS counts
    CROSS JOIN settings
    LEFT JOIN shown ON shown.category = counts.category
),

without_sums AS (
    SELECT
        category,
        drug,
        ordered,
        admissions,
        category_shown,
        hidden OR lag(hidden, 1, FALSE) OVER (
            PARTITION BY drug ORDER BY hidden DESC, ordered_patients, category
        ) AS hidden
    FROM cells
)

SELECT
    category,
    drug,
    CASE WHEN NOT hidden THEN ordered END AS ordered,
    admissions
FROM without_sums
WHERE category_shown
ORDER BY category, drug
