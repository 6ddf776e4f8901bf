-- How often each drug was ordered in training admissions with one kind of principal diagnosis, every count as it is.
--
-- Grain:  one row per ICD-10 category and drug that was ordered in it
-- Key:    category, drug
-- Inputs: icd_codes, samples
-- Known:  when training starts
-- Source: MIMIC-IV v3.1, hosp
--
-- The principal diagnosis is the one the coders ranked first. A code of ICD-9 counts under the ICD-10 category of its
-- equivalent (etl/icd.py), so that I50 holds 428.22 too. Patients are counted beside admissions, as sql/evidence.sql asks
-- how many people a number is of: other_patients have an admission of the category without the drug, and one who had it
-- in one admission and not in the next is among both.

WITH categories AS (
    SELECT
        code,
        icd_version,
        icd_category(icd_code, icd_version) AS category
    FROM icd_codes
),

principal AS (
    SELECT
        categories.category,
        samples.subject_id,
        samples.drugs
    FROM samples
    INNER JOIN categories
        ON categories.code = samples.diagnoses[1].icd_code
        AND categories.icd_version = samples.diagnoses[1].icd_version
    WHERE samples.split = 'train'
),

patients AS (
    SELECT
        category,
        subject_id,
        count(*) AS admissions
    FROM principal
    GROUP BY category, subject_id
),

totals AS (
    SELECT
        category,
        sum(admissions)::BIGINT AS admissions,
        count(*) AS patients
    FROM patients
    GROUP BY category
),

orders AS (
    SELECT
        category,
        subject_id,
        unnest(drugs) AS drug
    FROM principal
),

ordered AS (
    SELECT
        category,
        subject_id,
        drug,
        count(*) AS admissions
    FROM orders
    GROUP BY category, subject_id, drug
)

SELECT
    totals.category,
    ordered.drug,
    any_value(totals.admissions) AS admissions,
    any_value(totals.patients) AS patients,
    sum(ordered.admissions)::BIGINT AS ordered,
    count(*) AS ordered_patients,
    any_value(totals.patients) - count(*) FILTER (WHERE ordered.admissions = patients.admissions) AS other_patients
FROM ordered
INNER JOIN patients USING (category, subject_id)
INNER JOIN totals USING (category)
GROUP BY totals.category, ordered.drug
