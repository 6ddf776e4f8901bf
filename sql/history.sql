-- The drugs of each patient's previous admission.
--
-- Grain:  one row per stay with an earlier stay that has drugs
-- Key:    hadm_id
-- Inputs: admissions, drug_lists
-- Known:  at admission
-- Source: MIMIC-IV v3.1, hosp.admissions and hosp.prescriptions
--
-- The previous admission is the last one that began before this one and has any drug: an observation stay
-- without orders does not hide what the patient took before. Example: stays A (drugs), B (none), C: the
-- previous drugs of C are those of A.

WITH earlier AS (
    SELECT
        admissions.hadm_id,
        last_value(drug_lists.hadm_id IGNORE NULLS) OVER (
            PARTITION BY admissions.subject_id
            ORDER BY admissions.admittime, admissions.hadm_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS previous_hadm_id
    FROM admissions
    LEFT JOIN drug_lists USING (hadm_id)
)

SELECT
    earlier.hadm_id,
    earlier.previous_hadm_id,
    drug_lists.drugs AS previous_drugs
FROM earlier
INNER JOIN drug_lists ON drug_lists.hadm_id = earlier.previous_hadm_id
